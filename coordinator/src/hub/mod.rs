//! The hub: many merges, many workers, one path for one machine and a fleet.
//!
//! One task (`actor`) owns all sessions and all merges, and waits for nothing but its next message. Each active merge has a
//! task of its own (`lifecycle`) that plans, admits, and runs a [driver](crate::driver) with its own schedule. A driver's
//! mailbox takes everything at once, so a merge that is slow stops no other. The hub passes on:
//!
//! ```text
//!             Work sessions                                 Merges service
//!                   |  hello, reports (by the attempt's merge)     |  submit, cancel, watch
//!                   v                                              v
//!   .-----------------------------------  hub  -----------------------------------.
//!   |  sessions by worker, merges by id, slots shared by merges (share), registry |
//!   '------------------------------------------------------------------------------'
//!         |  joined, slots, beats, reports       ^  planned, running, ended
//!         v                                      |
//!   driver of merge a      driver of merge b   ...    each sends to workers' sessions by itself
//! ```
//!
//! **Sessions.** A worker that connects again under its number replaces its session, and what its old stream still says is
//! dropped. It must show the secret of its first session (`enrol`): nobody else gets its number. A broken stream is no
//! farewell: the worker's attempts live until their leases end. Reports of a merge that is not running here are answered
//! with a revocation.
//!
//! **Restart.** Submissions are in the registry before they are answered. A hub that starts goes on with everything that
//! has not ended, and each merge goes on from its own journal.
//!
//! **A merge that kills its coordinator** must not do so for ever. Before a merge is inspected and planned, that is written
//! into its record, and taken back afterwards. A hub that finds this marker when it starts follows one that was killed
//! meanwhile: it plans such merges one after the other, so that only the guilty one is caught again, and holds the one whose
//! marker it finds at a second start in a row.

mod actor;
mod asked;
mod census;
mod clock;
mod command;
mod counting;
mod enrol;
mod handle;
mod happened;
mod lifecycle;
mod markers;
mod merges;
mod options;
mod recording;
mod report;
mod saving;
mod sessions;
pub mod share;
mod slots;
mod starting;
mod stream;
mod telling;
mod totals;
mod view;
mod worker;

#[cfg(test)]
mod tests;

pub use crate::device::Device;
pub use census::Census;
pub use command::{Farewell, Followed, Session, Submission};
pub use enrol::Enrolment;
pub use handle::{Handle, start};
pub use options::Options;
pub use stream::Stretch;
pub use view::{Cursor, Page, Stage, View, WorkerView};
