//! What happened to a merge, added to the counters of the process.

use super::progress::Progress;

const EXPIRED: &str = "shardfuse_lease_expiries_total";
const LATE: &str = "shardfuse_late_receipts_total";
const RETRIES: &str = "shardfuse_retries_total";

/// Names the counters with what they have, at first nothing: a rate needs a value before the first fault.
pub fn begin() {
    count(&Progress::default(), &Progress::default());
}

/// Adds what a merge went through since it was shown the last time.
pub(super) fn count(before: &Progress, now: &Progress) {
    metrics::counter!(EXPIRED).increment(now.expired.saturating_sub(before.expired));
    metrics::counter!(LATE).increment(now.late.saturating_sub(before.late));
    for ((kind, now), (_, before)) in now.retries_by.iter().zip(before.retries_by.iter()) {
        metrics::counter!(RETRIES, "kind" => kind).increment(now.saturating_sub(before));
    }
}
