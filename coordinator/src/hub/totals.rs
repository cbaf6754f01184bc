//! What is kept of a merge's progress when it ends.

use crate::driver::Progress;
use crate::registry::Totals;

/// As it is recorded; `None` of a merge that was never driven.
pub(super) fn kept(progress: &Progress) -> Option<Totals> {
    (progress.tasks_total > 0).then_some(Totals {
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        output_bytes: progress.output_bytes,
        tasks_done: progress.tasks_done,
        tasks_total: progress.tasks_total,
        parts_new: progress.parts_new,
        parts_kept: progress.parts_kept,
        retries: progress.retries,
        expired: progress.expired,
        repeated: progress.repeated,
        late: progress.late,
    })
}

/// As it is shown again after a restart.
pub(super) fn shown(totals: Totals) -> Progress {
    Progress {
        bytes_done: totals.bytes_done,
        bytes_total: totals.bytes_total,
        output_bytes: totals.output_bytes,
        tasks_done: totals.tasks_done,
        tasks_total: totals.tasks_total,
        parts_new: totals.parts_new,
        parts_kept: totals.parts_kept,
        retries: totals.retries,
        expired: totals.expired,
        repeated: totals.repeated,
        late: totals.late,
        ..Progress::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_is_shown_again() {
        let progress = Progress {
            bytes_done: 1,
            bytes_total: 2,
            output_bytes: 3,
            tasks_done: 4,
            tasks_total: 5,
            parts_new: 6,
            parts_kept: 7,
            retries: 8,
            expired: 9,
            repeated: 10,
            late: 11,
            ..Progress::default()
        };
        assert_eq!(kept(&progress).map(shown), Some(progress));
        assert_eq!(kept(&Progress::default()), None);
    }
}
