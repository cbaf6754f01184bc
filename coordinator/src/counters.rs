//! The counters of a coordinator that alerts and dashboards ask for, named before anything happened: a rate needs a value
//! before the first fault, or that fault goes unseen.

use crate::driver::counted;

/// How a merge's run may end.
const OUTCOMES: [&str; 4] = ["done", "failed", "cancelled", "paused"];

/// Names them. Called once metrics are kept.
pub fn begin() {
    for outcome in OUTCOMES {
        metrics::counter!("shardfuse_merges_ended_total", "outcome" => outcome).increment(0);
    }
    metrics::counter!("shardfuse_bytes_merged_total").increment(0);
    counted::begin();
}
