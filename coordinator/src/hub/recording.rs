//! Writing a merge's record: one write a merge at a time, the latest state, and answers once it is written.

use shardfuse_merge::Result;
use tracing::warn;

use super::actor::Hub;
use super::clock::clock;
use super::merges::Phase;
use super::report::{Report, What};
use super::saving::Waiter;
use crate::registry::{Ended, MergeId, Outcome};

impl Hub {
    /// Writes a merge's record as it is now.
    pub(super) fn save(&mut self, id: &MergeId, waiter: Option<Waiter>) {
        let Some(merge) = self.merges.get_mut(id) else { return };
        merge.saving.wanted += 1;
        merge.saving.waiters.extend(waiter.map(|w| (merge.saving.wanted, w)));
        self.write(id);
    }

    /// Answers once all that was changed until now is written.
    pub(super) fn once_written(&mut self, id: &MergeId, waiter: Waiter) {
        let Some(merge) = self.merges.get_mut(id) else { return };
        match merge.saving.is_written() {
            true => waiter.answer(Ok(()), merge.shown()),
            false => merge.saving.waiters.push((merge.saving.wanted, waiter)),
        }
    }

    /// Begins to write, unless that is under way.
    pub(super) fn write(&mut self, id: &MergeId) {
        let Some(merge) = self.merges.get_mut(id) else { return };
        if merge.saving.busy || merge.saving.is_written() {
            return;
        }
        merge.saving.busy = true;
        let version = merge.saving.wanted;
        let (id, record, run, reports) = (id.clone(), merge.record.clone(), merge.run, self.reports.clone());
        let registry = self.registry.clone();
        tokio::spawn(async move {
            let result = match registry {
                Some(registry) => registry.put(&id, &record).await,
                None => Ok(()),
            };
            let _ = reports.send(Report { merge: id, run, what: What::Saved { version, result } });
        });
    }

    pub(super) fn saved(&mut self, id: &MergeId, version: u64, result: Result<()>) {
        let Some(merge) = self.merges.get_mut(id) else { return };
        let saving = &mut merge.saving;
        saving.busy = false;
        if result.is_ok() {
            saving.written = saving.written.max(version);
        }
        let is_due =
            |(at, waiter): &(u64, Waiter)| *at <= version && (result.is_ok() || !matches!(waiter, Waiter::Noted(_)));
        let (due, later): (Vec<_>, Vec<_>) = saving.waiters.drain(..).partition(is_due);
        saving.waiters = later;
        let never = saving.written == 0;
        if let Err(e) = &result {
            warn!(merge = %id, error = %e, "the merge cannot be recorded");
            let refused = due.iter().any(|(_, waiter)| matches!(waiter, Waiter::Submitted { .. }));
            if refused && matches!(merge.phase, Phase::Queued) {
                // Nobody was told that it was taken on.
                merge.saving.written = merge.saving.wanted;
                merge.phase = Phase::Ended(Ended {
                    at: clock(),
                    outcome: Outcome::failed(e),
                    plan: None,
                    device_class: None,
                    totals: None,
                });
            }
        }
        let Some(merge) = self.merges.get_mut(id) else { return };
        merge.refresh();
        for (_, waiter) in due {
            waiter.answer(result.clone(), merge.shown());
        }
        if result.is_err() {
            // Tried again at the next tick.
            if never && merge.has_ended() {
                self.merges.remove(id);
            }
            return;
        }
        self.write(id);
        self.start_queued();
    }
}
