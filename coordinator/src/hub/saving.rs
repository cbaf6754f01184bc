//! Writing a merge's record: one write a merge at a time, the latest state, and answers once it is written.

use shardfuse_merge::Result;
use tokio::sync::oneshot;
use tracing::warn;

use super::actor::{Hub, clock};
use super::lifecycle::{Report, What};
use super::merges::Phase;
use super::view::View;
use crate::registry::{Ended, MergeId, Outcome};

/// Which state of a record is written.
#[derive(Default)]
pub(super) struct Saving {
    /// Counts changes.
    wanted: u64,
    /// The change up to which all is written.
    written: u64,
    busy: bool,
    waiters: Vec<(u64, Waiter)>,
}

/// Who is answered once a change is written.
pub(super) enum Waiter {
    Submitted {
        known: bool,
        reply: oneshot::Sender<Result<(View, bool)>>,
    },
    /// Somebody cancelled the merge, or had it begun again.
    Changed(oneshot::Sender<Result<Option<View>>>),
    /// The merge's own task, which goes no further before the change is written, however long the store is away.
    Noted(oneshot::Sender<()>),
}

impl Saving {
    /// A record that was read is written.
    pub(super) fn read() -> Saving {
        Saving { wanted: 1, written: 1, ..Saving::default() }
    }

    pub(super) fn is_written(&self) -> bool {
        self.written == self.wanted
    }
}

impl Waiter {
    fn answer(self, result: Result<()>, view: View) {
        // Who does not wait any more needs no answer.
        match self {
            Waiter::Submitted { known, reply } => _ = reply.send(result.map(|()| (view, known))),
            Waiter::Changed(reply) => _ = reply.send(result.map(|()| Some(view))),
            Waiter::Noted(reply) => _ = reply.send(()),
        }
    }
}

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
                merge.phase =
                    Phase::Ended(Ended { at: clock(), outcome: Outcome::failed(e), plan: None, device_class: None });
            }
        }
        let Some(merge) = self.merges.get(id) else { return };
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
