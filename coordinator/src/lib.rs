//! The coordinator: it reads the headers, plans, hands out tasks, journals receipts and publishes the output.
//!
//! Decisions are made in [`schedule`], a pure machine. Each merge has a [`driver`] that performs them; the [`hub`] passes
//! messages between workers and drivers, and keeps all merges.

pub mod admit;
mod announced;
mod apart;
pub mod checks;
pub mod clean;
pub mod counters;
pub mod device;
pub mod driver;
mod equal;
pub mod events;
pub mod failure;
pub mod happening;
pub mod hub;
pub mod index;
pub mod inspect;
pub mod journal;
mod measured;
pub mod opened;
pub mod outbound;
pub mod outline;
pub mod owner;
mod persist;
pub mod places;
pub mod planning;
pub mod publish;
pub mod registry;
pub mod schedule;
pub mod service;
pub mod state;
pub mod tombstone;

pub use admit::{Admitted, Options, admit};
pub use driver::{Progress, Summary};
pub use inspect::inspect;
