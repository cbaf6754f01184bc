//! What the schedule wants done.

use std::fmt;
use std::time::Duration;

use super::id::{Epoch, Piece, TaskId, WorkerId};
use super::receipt::Receipt;

/// What is to be done. Actions of one step are to be performed in order: to one worker, a slot's [`Action::Revoke`] comes before
/// the [`Action::Assign`] that fills it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send an attempt to a worker.
    Assign {
        /// To whom.
        worker: WorkerId,
        /// Which task.
        task: TaskId,
        /// Under which number.
        epoch: Epoch,
        /// What is missing of the task, ascending: the pieces to do.
        pieces: Vec<Piece>,
        /// How long the attempt lives without a heartbeat that names it.
        lease: Duration,
    },
    /// Tell a worker to stop an attempt and forget all about it, reports that were not acknowledged included.
    Revoke {
        /// Whom; possibly a worker that is no longer there.
        worker: WorkerId,
        /// Which task.
        task: TaskId,
        /// Which attempt.
        epoch: Epoch,
    },
    /// Write a receipt to the journal, and say so with [`Event::Persisted`](super::Event::Persisted).
    Persist {
        /// Of which task.
        task: TaskId,
        /// Which piece.
        piece: Piece,
        /// Which attempt made it.
        epoch: Epoch,
        /// What to write.
        receipt: Receipt,
    },
    /// Tell a worker that a piece it reported is journaled, by its own receipt or another's.
    Ack {
        /// Whom; possibly a worker that is no longer there.
        worker: WorkerId,
        /// Of which task.
        task: TaskId,
        /// In which attempt it was reported.
        epoch: Epoch,
        /// Which piece.
        piece: Piece,
    },
    /// Every piece of the task is journaled.
    TaskDone {
        /// Which.
        task: TaskId,
    },
    /// Nothing was heard of a worker for a lease; its attempts ended. For the log: its next heartbeat brings it back.
    WorkerLost {
        /// Who.
        worker: WorkerId,
    },
    /// A worker let attempts stand still while others went on; they were revoked before. For the log: it gets nothing new for
    /// a while.
    Stalled {
        /// Who.
        worker: WorkerId,
    },
    /// A worker failed too often by its own fault, and gets nothing more of this merge.
    Quarantine {
        /// Who.
        worker: WorkerId,
        /// How many such errors it had without finishing a task.
        strikes: u32,
        /// The last of them.
        message: String,
    },
    /// Every task is done: make the output visible. The last action of this kind of merge.
    Publish,
    /// The merge has failed, or is no longer wanted. Every live attempt was revoked before it.
    Abort {
        /// Why.
        reason: AbortReason,
    },
}

/// Why a merge ended without an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbortReason {
    /// An error that no further attempt can cure.
    Permanent {
        /// In which task.
        task: TaskId,
        /// The worker that met it.
        worker: WorkerId,
        /// What it was.
        message: String,
    },
    /// A task was tried as often as the limits allow.
    Exhausted {
        /// Which.
        task: TaskId,
        /// How many attempts ended by a transient error or a lost lease.
        failures: u32,
        /// How many attempts were begun.
        attempts: u32,
        /// The last failure that counts; or, where only the number of attempts was used up, what ended the last of them.
        message: String,
    },
    /// [`Event::Cancel`](super::Event::Cancel).
    Cancelled,
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permanent { task, worker, message } => write!(f, "task {task} failed on worker {worker}: {message}"),
            Self::Exhausted { task, failures, attempts, message } => write!(
                f,
                "task {task} is not finished after {attempts} attempts, of which {failures} count as failed; the last: {message}"
            ),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// How a merge ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// [`Action::Publish`] was returned.
    Published,
    /// [`Action::Abort`] was returned.
    Aborted(AbortReason),
}
