//! The tonic edge: what comes over the wire, checked and turned into the hub's words, and its answers turned back.

pub mod role;
pub mod status;
pub mod work;

pub use role::Role;
pub use work::{Sessions, ToWorker, WorkService};
