//! What people ask about merges that are known: to see them, to stop one, to begin one again.

use shardfuse_merge::{Error, Kind, Result, bounded};
use tokio::sync::oneshot;

use super::actor::Hub;
use super::clock::clock;
use super::command::Submission;
use super::merges::{Merge, Phase};
use super::report::{Halt, interrupted};
use super::saving::Waiter;
use super::view::{Cursor, Page, View};
use crate::happening::Happening;
use crate::registry::{Ended, MergeId, Outcome};

/// The largest page of a list, in bytes, but for its last merge: many clients take messages of 4 MiB at the most.
const PAGE: usize = 2 << 20;

impl Hub {
    /// The merge whose id is, or begins with, a text.
    pub(super) fn named(&self, text: &str) -> Result<Option<MergeId>> {
        if text.is_empty() {
            return Ok(None);
        }
        let mut found: Vec<&MergeId> = self.merges.keys().filter(|id| id.as_str().starts_with(text)).collect();
        found.sort_unstable();
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some((*one).clone())),
            several => {
                let (count, ids) = (several.len(), bounded::list(several.iter().map(|id| id.as_str())));
                Err(Error::new(Kind::Usage, format!("{text:?} begins the ids of {count} merges: {ids}"))
                    .hint("give more digits of the id"))
            }
        }
    }

    /// The merges below a place in the list. One that is large ends the page, and never keeps the next from being shown.
    pub(super) fn list(&self, after: Option<Cursor>, limit: usize) -> Page {
        let below = |at: &Cursor| after.as_ref().is_none_or(|after| at < after);
        let mut all: Vec<(Cursor, &Merge)> =
            self.merges.iter().map(|(id, m)| (m.cursor(id), m)).filter(|(at, _)| below(at)).collect();
        all.sort_by(|a, b| b.0.cmp(&a.0));
        let (mut merges, mut bytes, mut next) = (Vec::new(), 0, None);
        let count = all.len();
        for (at, merge) in all {
            let view = merge.shown();
            bytes += view.bytes();
            merges.push(view);
            if merges.len() == count {
                break;
            }
            if bytes >= PAGE || merges.len() >= limit {
                next = Some(at);
                break;
            }
        }
        Page { merges, next }
    }

    pub(super) fn cancel(&mut self, id: &MergeId, discard: bool, reply: oneshot::Sender<Result<Option<View>>>) {
        let Some(merge) = self.merges.get_mut(id) else {
            let _ = reply.send(Ok(None));
            return;
        };
        match &mut merge.phase {
            Phase::Ended(_) => _ = reply.send(Ok(Some(merge.shown()))),
            Phase::Active(active) if active.publishing => _ = reply.send(Ok(Some(merge.shown()))),
            Phase::Active(active) => {
                active.halt.send_replace(Some(Halt::Cancel { discard }));
                merge.record.cancel = Some(discard);
                self.save(id, Some(Waiter::Changed(reply)));
            }
            Phase::Queued | Phase::Held if discard => {
                // What an earlier run left is removed by a run of its own, which plans nothing.
                merge.record.cancel = Some(true);
                merge.record.held = None;
                merge.phase = Phase::Queued;
                merge.refresh();
                self.save(id, Some(Waiter::Changed(reply)));
            }
            Phase::Queued | Phase::Held => {
                merge.record.cancel = Some(false);
                merge.record.held = None;
                merge.record.planned();
                let (plan, device_class) = (merge.plan.clone(), merge.device_class.clone());
                let ended = Ended { at: clock(), outcome: Outcome::Cancelled, plan, device_class, totals: None };
                merge.happenings.add(Happening::step(ended.at, "cancelled before it was begun"));
                merge.phase = Phase::Ended(ended.clone());
                merge.record.ended = Some(ended);
                merge.tell_end(Err(interrupted()));
                merge.refresh();
                self.save(id, Some(Waiter::Changed(reply)));
            }
        }
        self.start_queued();
    }

    /// Begins a merge again that is held, has failed or was cancelled.
    pub(super) fn retry(&mut self, id: &MergeId, reply: oneshot::Sender<Result<Option<View>>>) {
        match self.queue_again(id) {
            Ok(true) => self.save(id, Some(Waiter::Changed(reply))),
            Ok(false) => _ = reply.send(Ok(self.merges.get(id).map(Merge::shown))),
            Err(e) => _ = reply.send(Err(e)),
        }
    }

    /// Whether it was queued.
    fn queue_again(&mut self, id: &MergeId) -> Result<bool> {
        self.refuse_if_stopping()?;
        let Some(merge) = self.merges.get_mut(id) else { return Ok(false) };
        match &merge.phase {
            Phase::Held => {
                merge.record.held = None;
                merge.record.planned();
                merge.phase = Phase::Queued;
                merge.refresh();
                Ok(true)
            }
            Phase::Ended(ended) if ended.outcome != Outcome::Done => {
                let record = &merge.record;
                let again = Submission {
                    spec: (*record.spec).clone(),
                    restart: record.restart,
                    force: record.force,
                    allow_no_change: record.allow_no_change,
                    priority: record.priority,
                    device: record.device.parse().ok(),
                    verify_parts: Some(record.verify_parts),
                };
                self.take_on(again).map(|_| true)
            }
            Phase::Queued | Phase::Active(_) | Phase::Ended(_) => Ok(false),
        }
    }
}
