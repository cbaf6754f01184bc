//! What happened in a run: that a fault was planned proves nothing, so what it did is counted.

use serde::{Deserialize, Serialize};

/// Counts of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Coordinators that crashed while the merge was not done.
    pub coordinator_crashes: u64,
    /// Workers that crashed while they had something to do.
    pub worker_crashes: u64,
    /// Leases that ran out because the worker was cut off.
    pub leases_cut: u64,
    /// Lines that stalled, and then delivered all at once.
    pub stalls: u64,
    /// Lines whose messages took 100 ms and more.
    pub slow_lines: u64,
    /// Epochs that coordinators took.
    pub epochs: u64,
    /// Second coordinators that came while the first was there.
    pub rivals: u64,
    /// Coordinators that were stopped in publication, and went on when another one had published.
    pub naps: u64,
    /// Workers that were told to leave.
    pub drains: u64,
    /// Coordinators that were told to stop.
    pub stops: u64,
    /// Parts that arrived when their file was complete.
    pub late_puts: u64,
    /// Parts that were put once more.
    pub parts_again: u64,
    /// Attempts beside one that was slow.
    pub repeated: u64,
    /// Attempts after one that had ended.
    pub retried: u64,
    /// Live attempts that their workers gave up.
    pub failed: u64,
    /// Calls to the store that failed.
    pub store_errors: u64,
    /// Workers that hung while they had something to do.
    pub hangs: u64,
    /// Attempts in all.
    pub assigned: u64,
}

impl Facts {
    /// The kinds that a campaign must have seen, each with its count.
    pub fn kinds(&self) -> [(&'static str, u64); 17] {
        [
            ("crash of a coordinator", self.coordinator_crashes),
            ("crash of a worker", self.worker_crashes),
            ("partition that cut a live lease", self.leases_cut),
            ("line that stalled", self.stalls),
            ("latency of 100 ms and more", self.slow_lines),
            ("epoch above 1", self.epochs.saturating_sub(1)),
            ("second coordinator beside the first", self.rivals),
            ("coordinator stopped in publication", self.naps),
            ("worker told to leave", self.drains),
            ("coordinator told to stop", self.stops),
            ("part put late, its file complete", self.late_puts),
            ("part put again", self.parts_again),
            ("attempt beside a slow one", self.repeated),
            ("attempt after a lost or failed one", self.retried),
            ("attempt that its worker gave up", self.failed),
            ("call to the store that failed", self.store_errors),
            ("worker that hung with tasks", self.hangs),
        ]
    }
}
