//! How far a merge is, for those who watch it.

use std::collections::BTreeSet;

use super::{Driver, counted};
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

impl Driver {
    pub(super) fn show(&self, publishing: bool) {
        let (p, counters) = (self.schedule.progress(), self.schedule.counters());
        let now = Progress {
            bytes_done: p.bytes_done,
            bytes_total: p.bytes_total,
            tasks_done: p.done,
            tasks_running: p.running,
            tasks_total: p.waiting + p.running + p.done,
            workers: u32::try_from(p.workers).unwrap_or(u32::MAX),
            demand: if self.checks.is_under_way() { self.checks.demand() } else { self.schedule.demand() },
            benched: self.schedule.benched(),
            retries: counters.retries,
            retries_by: counters.retries_by,
            expired: counters.expired,
            repeated: counters.speculated,
            late: counters.duplicates + counters.stale,
            parts_new: self.parts.new,
            parts_kept: self.parts.kept,
            output_bytes: self.ready.plan.output.files.iter().map(|file| file.size).sum(),
            publishing,
        };
        self.progress.send_if_modified(|shown| {
            let changed = *shown != now;
            if changed {
                counted::count(shown, &now);
            }
            *shown = now;
            changed
        });
    }
}
