//! What the schedule is told.

use super::effort::Effort;
use super::id::{Epoch, Piece, TaskId, WorkerId};
use super::receipt::Receipt;

/// What an error says about a further attempt. The kind decides, never the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// May pass: tried again, and counted against the task.
    Transient,
    /// Will come back on any worker: ends the merge.
    Permanent,
    /// The worker's own trouble (memory, device, disk): tried again, and counted against the worker.
    WorkerLocal,
    /// The attempt was overtaken (an upload that is gone): tried again, and counted against nobody.
    Stale,
}

/// What happened. Each can be told at any time and in any order: what does not fit is counted, never an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker is there and offers to run `slots` tasks at a time.
    ///
    /// For a worker that is there already this is a reconnect: its attempts go on. When it is known to be another process
    /// under an old number, send [`Event::Left`] first, or its predecessor's attempts hold their slots until their leases end.
    WorkerJoined {
        /// Who.
        worker: WorkerId,
        /// How many attempts it runs at a time; zero is a worker that gets nothing.
        slots: u32,
    },
    /// From now on a worker may run `slots` attempts at a time for this merge; it has others for other merges. Attempts beyond
    /// that continue. This is no sign of life, and changes nothing for a worker that never joined.
    Slots {
        /// Who.
        worker: WorkerId,
        /// How many; zero is nothing new.
        slots: u32,
    },
    /// A sign of life, with every attempt that the worker runs. It renews the leases of those, and brings back a lost worker.
    Heartbeat {
        /// Who.
        worker: WorkerId,
        /// What it runs, and how far each attempt is.
        running: Vec<(TaskId, Epoch, Effort)>,
    },
    /// A piece is finished and in the store.
    PieceDone {
        /// Who.
        worker: WorkerId,
        /// Of which task.
        task: TaskId,
        /// In which attempt.
        epoch: Epoch,
        /// Which.
        piece: Piece,
        /// What it left.
        receipt: Receipt,
    },
    /// The receipt that an [`Action::Persist`](super::Action::Persist) named is in the journal.
    Persisted {
        /// Of which task.
        task: TaskId,
        /// Which piece.
        piece: Piece,
    },
    /// The worker gave an attempt up, and has stopped it.
    TaskFailed {
        /// Who.
        worker: WorkerId,
        /// Which task.
        task: TaskId,
        /// In which attempt.
        epoch: Epoch,
        /// What follows.
        kind: ErrorKind,
        /// What went wrong, for people.
        message: String,
    },
    /// The worker wants to finish what it runs and get nothing new.
    Draining {
        /// Who.
        worker: WorkerId,
    },
    /// The worker is gone, and so is all that it ran. A broken connection alone is no reason to say this: a worker that
    /// comes back within its lease goes on.
    Left {
        /// Who.
        worker: WorkerId,
    },
    /// Time has passed. To be sent a few times a lease, while nothing else happens too.
    Tick,
    /// The merge is no longer wanted.
    Cancel,
}
