//! A merge as the hub holds it.

use std::collections::BTreeSet;
use std::time::Duration;

use shardfuse_merge::{DeviceClass, Error, Kind, Result};
use tokio::sync::watch;
use tokio::time::Instant;

use super::command::Follower;
use super::report::Halt;
use super::saving::Saving;
use super::totals;
use super::view::{Cursor, Stage, View};
use crate::driver::{Mailbox, Progress, Summary};
use crate::happening::Happenings;
use crate::registry::{Ended, MergeId, Outcome, Record};
use crate::schedule::WorkerId;

/// So long at the most a merge over which a coordinator was killed is planned alone among those.
const ALONE: Duration = Duration::from_secs(60);

/// A merge.
pub(super) struct Merge {
    pub(super) record: Record,
    /// Of two merges the one that came first has the lower.
    pub(super) arrival: u64,
    /// Numbers its runs: what an earlier run still says is dropped.
    pub(super) run: u64,
    pub(super) phase: Phase,
    pub(super) progress: Progress,
    pub(super) plan: Option<String>,
    pub(super) device_class: Option<DeviceClass>,
    pub(super) remarks: Vec<String>,
    /// The trace of its last run.
    pub(super) trace: Option<String>,
    /// For people.
    pub(super) happenings: Happenings,
    pub(super) waiting: Option<Waiting>,
    pub(super) saving: Saving,
    /// The caller that follows it to its end.
    pub(super) follower: Option<Follower>,
    view: watch::Sender<View>,
}

/// Where a merge stands, and what is needed there.
pub(super) enum Phase {
    Queued,
    /// Somebody decides whether it is begun; the record says why.
    Held,
    Active(Box<Active>),
    Ended(Ended),
}

/// A merge with a task of its own.
pub(super) struct Active {
    pub(super) halt: watch::Sender<Option<Halt>>,
    /// When it was begun.
    pub(super) since: Instant,
    /// Once it is admitted.
    pub(super) running: Option<Running>,
    pub(super) publishing: bool,
}

/// A merge with a driver.
pub(super) struct Running {
    pub(super) label: String,
    pub(super) class: DeviceClass,
    pub(super) mailbox: Mailbox,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) barred: BTreeSet<WorkerId>,
}

/// A merge that could go on if there was a worker.
pub(super) struct Waiting {
    pub(super) since: Instant,
    pub(super) remark: String,
    pub(super) said: bool,
}

impl Merge {
    pub(super) fn new(id: &MergeId, record: Record, arrival: u64) -> Merge {
        let phase = match &record.ended {
            Some(ended) => Phase::Ended(ended.clone()),
            None if record.held.is_some() => Phase::Held,
            None => Phase::Queued,
        };
        let (plan, device_class) = match &record.ended {
            Some(ended) => (ended.plan.clone(), ended.device_class.clone()),
            None => (None, None),
        };
        let view = View {
            id: id.clone(),
            spec: record.spec.clone(),
            stage: Stage::Queued,
            progress: Progress::default(),
            plan: None,
            device_class: None,
            priority: 0,
            submitted: 0,
            began: None,
            ended: None,
            failure: None,
            remarks: Vec::new(),
            waiting: None,
            trace: None,
        };
        let totals = record.ended.as_ref().and_then(|ended| ended.totals.as_deref().copied());
        let mut merge = Merge {
            record,
            arrival,
            run: 0,
            phase,
            progress: totals.map(totals::shown).unwrap_or_default(),
            plan,
            device_class,
            remarks: Vec::new(),
            trace: None,
            happenings: Happenings::default(),
            waiting: None,
            saving: Saving::default(),
            follower: None,
            view: watch::Sender::new(view),
        };
        merge.refresh();
        merge
    }

    pub(super) fn running(&self) -> Option<&Running> {
        match &self.phase {
            Phase::Active(active) if !active.publishing => active.running.as_ref(),
            _ => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.phase {
            Phase::Active(active) => active.running.as_mut(),
            _ => None,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// Whether it has a task that goes on, and not one that is on its way out.
    pub(super) fn takes_a_place(&self) -> bool {
        matches!(&self.phase, Phase::Active(active) if !matches!(*active.halt.borrow(), Some(Halt::Cancel { .. })))
    }

    /// Whether it is planned since a moment ago. One that takes longer is no reason for others to wait.
    pub(super) fn is_planned_alone(&self, now: Instant) -> bool {
        let recent = |since: Instant| now.saturating_duration_since(since) < ALONE;
        matches!(&self.phase, Phase::Active(active) if active.running.is_none() && recent(active.since))
    }

    /// Whether a coordinator was killed while it planned this merge, and no other has planned it since.
    pub(super) fn is_suspect(&self) -> bool {
        !self.record.broken_off.is_empty()
    }

    /// Where it stands in the list of all.
    pub(super) fn cursor(&self, id: &MergeId) -> Cursor {
        Cursor { submitted: self.record.submitted, id: id.clone() }
    }

    pub(super) fn stage(&self) -> Stage {
        match &self.phase {
            Phase::Queued => Stage::Queued,
            Phase::Held => Stage::Held,
            Phase::Active(active) if active.publishing => Stage::Publishing,
            Phase::Active(active) if active.running.is_some() => Stage::Running,
            Phase::Active(_) => Stage::Planning,
            Phase::Ended(Ended { outcome: Outcome::Done, .. }) => Stage::Done,
            Phase::Ended(Ended { outcome: Outcome::Failed { .. }, .. }) => Stage::Failed,
            Phase::Ended(Ended { outcome: Outcome::Cancelled, .. }) => Stage::Cancelled,
        }
    }

    /// Queues it anew.
    pub(super) fn queue(&mut self, record: Record, arrival: u64) {
        self.record = record;
        self.arrival = arrival;
        self.phase = Phase::Queued;
        self.progress = Progress::default();
        (self.plan, self.device_class) = (None, None);
        self.remarks.clear();
        self.trace = None;
    }

    /// Tells the one who follows it how it ended.
    pub(super) fn tell_end(&mut self, end: Result<Option<Box<Summary>>>) {
        if let Some(follower) = self.follower.take() {
            // The caller may have stopped waiting.
            let _ = follower.ended.send(end);
        }
    }

    /// Those that watch it.
    pub(super) fn watch(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    pub(super) fn shown(&self) -> View {
        self.view.borrow().clone()
    }

    /// Shows what has changed, with what its driver counts now.
    pub(super) fn refresh(&mut self) {
        if let Some(running) = self.running_mut() {
            let progress = running.progress.borrow().clone();
            self.progress = progress;
        }
        let (ended, failure): (Option<u64>, Option<Error>) = match &self.phase {
            Phase::Ended(ended) => (Some(ended.at), ended.outcome.error()),
            Phase::Held => (None, self.record.held.as_deref().map(|reason| held(&self.view.borrow().id, reason))),
            _ => (None, None),
        };
        let mut remarks = self.remarks.clone();
        remarks.extend(self.waiting.as_ref().filter(|w| w.said).map(|w| w.remark.clone()));
        self.view.send_if_modified(|view| {
            let now = View {
                id: view.id.clone(),
                spec: self.record.spec.clone(),
                stage: self.stage(),
                progress: self.progress.clone(),
                plan: self.plan.clone(),
                device_class: self.device_class.clone(),
                priority: self.record.priority,
                submitted: self.record.submitted,
                began: self.record.began,
                ended,
                failure,
                remarks,
                waiting: self.waiting.as_ref().filter(|w| w.said).map(|w| w.remark.clone()),
                trace: self.trace.clone(),
            };
            let changed = *view != now;
            *view = now;
            changed
        });
    }
}

/// Why a merge is held, with what to do.
fn held(id: &MergeId, reason: &str) -> Error {
    Error::new(Kind::Held, reason).hint(format!(
        "look at the coordinator's memory and at the merge's inputs; shardfuse retry {id} begins it again, \
         shardfuse cancel {id} gives it up"
    ))
}
