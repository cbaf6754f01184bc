//! The tonic edge: what comes over the wire, checked and turned into the hub's words, and its answers turned back.

mod bounds;
pub mod merges;
pub mod role;
pub mod spec;
pub mod status;
pub mod work;

pub use merges::MergesService;
pub use role::Role;
pub use work::WorkService;
