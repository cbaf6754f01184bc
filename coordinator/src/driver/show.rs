//! Shows how far the merge is.

use super::actor::Driver;
use super::counted;
use super::progress::Progress;

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
            output_bytes: self.opened.plan.output.files.iter().map(|file| file.size).sum(),
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
