//! What happened to a merge, added to the counters of the process.

use super::progress::Progress;

const EXPIRED: &str = "shardfuse_lease_expiries_total";
const LATE: &str = "shardfuse_late_receipts_total";
const RETRIES: &str = "shardfuse_retries_total";
const PIECES: &str = "shardfuse_pieces_total";

/// What workers finish: any of it is progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finished {
    /// A part of the output.
    Part,
    /// A block of a statistic.
    Block,
    /// A part that was computed again to verify it.
    Check,
}

impl Finished {
    const ALL: [Finished; 3] = [Finished::Part, Finished::Block, Finished::Check];

    /// The value of the label `kind`.
    fn name(self) -> &'static str {
        match self {
            Finished::Part => "part",
            Finished::Block => "block",
            Finished::Check => "check",
        }
    }

    /// Counts one whose report was accepted.
    pub(super) fn count(self) {
        metrics::counter!(PIECES, "kind" => self.name()).increment(1);
    }
}

/// Names the counters with what they have, at first nothing: a rate needs a value before the first fault.
pub fn begin() {
    count(&Progress::default(), &Progress::default());
    for kind in Finished::ALL {
        metrics::counter!(PIECES, "kind" => kind.name()).increment(0);
    }
}

/// Adds what a merge went through since it was shown the last time.
pub(super) fn count(before: &Progress, now: &Progress) {
    metrics::counter!(EXPIRED).increment(now.expired.saturating_sub(before.expired));
    metrics::counter!(LATE).increment(now.late.saturating_sub(before.late));
    for ((kind, now), (_, before)) in now.retries_by.iter().zip(before.retries_by.iter()) {
        metrics::counter!(RETRIES, "kind" => kind).increment(now.saturating_sub(before));
    }
}
