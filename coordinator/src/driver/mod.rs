//! The driver of one merge: feeds its schedule with what happens, and does what the schedule says.
//!
//! One loop (`actor`) owns the schedule and waits for nothing but its next input. Nobody waits for the driver either: its
//! mailbox takes everything at once, within bounds (`queue`). Journal writes run in a task of their own, in batches: while
//! one batch is written the next one gathers, so a receipt waits for one write at the most. Messages to workers go into
//! their sessions' queues without waiting: a session whose queue is full is cut, and the worker comes back with what was
//! not acknowledged.

mod actions;
mod actor;
mod assignment;
mod checking;
pub mod counted;
mod effects;
mod findings;
mod finish;
mod happened;
mod input;
mod layers;
mod mailbox;
mod names;
mod parts;
mod progress;
mod quarantine;
mod queue;
mod reports;
mod setup;
mod show;
mod survival;
mod takeover;
mod unverified;
mod uploads;

pub use actor::run;
pub use input::Input;
pub use mailbox::{Inbox, Mailbox, Refused, mailbox};
pub use progress::Progress;
pub use setup::{Notice, Setup, Summary};
