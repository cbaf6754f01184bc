//! A worker: it leases tasks from a coordinator, reads exactly the bytes it needs, fuses them, puts the finished parts
//! and reports a receipt for each.
//!
//! A worker keeps no state but caches. Everything it must know comes with the assignment.

pub mod device;
mod failure;
mod pipeline;
mod session;
pub mod spot;
mod work;

pub use failure::Failure;
pub use pipeline::Pipeline;
pub use session::{Options, run, serve};
pub use work::Usage;
