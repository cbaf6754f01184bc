//! How far a merge is, and what was counted on the way.

use super::cause::Retries;

/// How far a merge is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Tasks without a live attempt that are not finished.
    pub waiting: u32,
    /// Tasks with a live attempt, or whose last receipts are on their way to the journal.
    pub running: u32,
    /// Tasks whose pieces are all journaled.
    pub done: u32,
    /// Journaled pieces.
    pub pieces_done: u64,
    /// All pieces.
    pub pieces_total: u64,
    /// Bytes of the journaled pieces, taking the pieces of one task as equal.
    pub bytes_done: u64,
    /// Bytes of all tasks.
    pub bytes_total: u64,
    /// Workers that are there and may get tasks. With none the merge waits for one to join.
    pub workers: usize,
}

/// What was counted. None of it ends a merge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Receipts accepted: the first of their piece.
    pub accepted: u64,
    /// Receipts dropped because their piece had one.
    pub duplicates: u64,
    /// Dropped receipts that stand for other bytes than the accepted one. Anything but zero means that two workers disagree
    /// about the arithmetic or its inputs.
    pub disagreeing: u64,
    /// Reports of attempts that had ended, or never were.
    pub stale: u64,
    /// Attempts that ended by their lease, or with a worker that was lost.
    pub expired: u64,
    /// Attempts that ended because they showed no progress while other workers did.
    pub stalled: u64,
    /// Attempts at tasks whose earlier attempts had all ended.
    pub retries: u64,
    /// The same by what ended the attempt before.
    pub retries_by: Retries,
    /// Attempts that repeat a slow one.
    pub speculated: u64,
    /// Events that fit nothing: an unknown worker or piece, or the merge had ended.
    pub ignored: u64,
}
