//! The coordinator: it reads the headers, plans, hands out tasks, journals receipts and publishes the output.
//!
//! Decisions are made in [`schedule`], a pure machine; [`driver`] is the only place that waits.

pub mod admit;
pub mod clean;
pub mod driver;
mod equal;
mod failure;
pub mod inspect;
pub mod journal;
mod persist;
pub mod publish;
pub mod schedule;
pub mod service;
pub mod state;

pub use admit::{Admitted, Options, admit};
pub use driver::{Progress, Summary, run};
pub use inspect::inspect;
