//! The schedule of one merge: which worker does which task, and what is finished.
//!
//! A pure machine. [`Schedule::step`] takes the time and one [`Event`], and returns the [`Action`]s that follow from it. There
//! is no clock, no randomness and no I/O here, so that a run can be replayed, and histories be tried by the thousand.
//!
//! ```text
//!  TASK
//!      .--------------------- every piece was journaled before (resume) ---------------------.
//!      |                                                                                     v
//!   +-----------------------+           +--------------+ last     +----------+ last      +------+
//!   | waiting               |  Assign   | running      | piece    | settling | piece     | done |
//!   |                       | --------> |              | -------> |          | --------> |      |
//!   |   blocked             |           | one attempt  | accepted |          | persisted |      |
//!   |      | last `after`   |           |   |    ^     |          +----------+           +------+
//!   |      v is done        |           |   v    |     |
//!   |   ready <--- backoff  | <-------- | two attempts |   An attempt ends with its task's last piece, by its worker's
//!   |         delay is over | its last  | (the second  |   error, by its lease, or with its worker. A task that would
//!   +-----------------------+ attempt   |  repeats a   |   wait again when its attempts are used up ends the merge.
//!                             ended     |  slow one)   |
//!                                       +--------------+
//!
//!  PIECE
//!   missing --(first receipt from a live attempt: Persist)--> accepted --(Persisted: Ack)--> persisted
//!
//!  WORKER
//!                                Draining
//!   unknown ----------> ready --------------> draining      A worker that joins is ready.
//!           WorkerJoined |  ^                  |    ^       Besides, a worker can be quarantined, for good: it gets
//!            nothing for |  | Heartbeat        |    |       nothing new, but may finish what it runs. And how many
//!               a lease  v  |                  v    |       slots it has changes at any time (Slots): it is shared
//!                        lost                   lost        with other merges.
//!                        '------- Left --------'            (from ready and draining too)
//!                                  v
//!                                 left
//!
//!  MERGE     merging --(every task done: Publish)--> published
//!            merging --(permanent error, attempts used up, Cancel: Revoke..., Abort)--> aborted
//! ```
//!
//! What holds after every step (`properties` tries to break each):
//!
//! - a task has at most two live attempts, on two workers; an epoch is never used twice for a task;
//! - the first receipt of a piece from a live attempt is accepted, persisted once, and never changes;
//! - nothing that an ended attempt reports is accepted;
//! - a piece is acknowledged only once it is persisted, and then to every worker that reported it;
//! - work goes only to a worker that is there, neither draining, quarantined nor on the bench, and has a free slot;
//! - an attempt that stands still while others could do its work ends, and nothing is held against its task;
//! - no task starts before every task in its `after` is done;
//! - the merge is published at most once, and only when every piece is persisted.
//!
//! Once faults stop, the merge ends.

mod action;
mod build;
mod cause;
mod effort;
mod event;
mod failure;
mod finish;
mod id;
mod invalid;
mod limits;
mod machine;
mod pace;
mod pieces;
mod placement;
mod presence;
mod progress;
mod ready;
mod receipt;
mod report;
mod speculation;
mod stall;
mod task;
mod worker;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use action::{AbortReason, Action, Outcome};
pub use cause::Retries;
pub use effort::Effort;
pub use event::{ErrorKind, Event};
pub use id::{Epoch, Piece, TaskId, WorkerId};
pub use invalid::InvalidSchedule;
pub use limits::Limits;
pub use machine::Schedule;
pub use progress::{Counters, Progress};
pub use receipt::Receipt;
pub use task::TaskSpec;
