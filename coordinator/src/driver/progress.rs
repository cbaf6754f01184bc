//! How far a merge is, for those who watch it.

use std::collections::BTreeSet;

use crate::schedule::{Retries, WorkerId};

/// How far a merge is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of finished tasks and parts.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// Finished tasks.
    pub tasks_done: u32,
    /// Tasks with a live attempt, or whose last receipts are on their way to the journal.
    pub tasks_running: u32,
    /// Tasks in all.
    pub tasks_total: u32,
    /// Workers that may get tasks of it now.
    pub workers: u32,
    /// Slots that it could use now.
    pub demand: u32,
    /// Workers that get nothing of it for a while, because their tasks stood still.
    pub benched: BTreeSet<WorkerId>,
    /// Attempts that had to be made again.
    pub retries: u64,
    /// The same by what ended the attempt before.
    pub retries_by: Retries,
    /// Leases that ran out.
    pub expired: u64,
    /// Second attempts at tasks that were slow.
    pub repeated: u64,
    /// Reports that came too late, or from attempts that had ended.
    pub late: u64,
    /// Parts that this run journaled.
    pub parts_new: u64,
    /// Parts that earlier runs journaled.
    pub parts_kept: u64,
    /// The size of the output's weight files, once there is a plan. Less than `bytes_total` where statistics are read.
    pub output_bytes: u64,
    /// Whether the output is being published.
    pub publishing: bool,
}
