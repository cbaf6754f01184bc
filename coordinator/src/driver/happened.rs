//! What the hub is told for people who look at the merge.

use shardfuse_merge::Error;

use super::actor::Driver;
use super::setup::Notice;
use crate::schedule::{Epoch, ErrorKind, TaskId, WorkerId};

impl Driver {
    /// Something that a worker does.
    pub(super) fn step_of(&self, worker: WorkerId, text: String) {
        (self.notify)(Notice::Happened { worker: Some(worker), fault: false, text, hint: None });
    }

    /// Something that should not happen.
    pub(super) fn fault_of(&self, worker: WorkerId, text: String, hint: Option<&str>) {
        (self.notify)(Notice::Happened { worker: Some(worker), fault: true, text, hint: hint.map(str::to_owned) });
    }

    /// An attempt begins. The first at a task is nothing to speak of.
    pub(super) fn begins(&self, worker: WorkerId, task: TaskId, epoch: Epoch) {
        if epoch != self.first {
            self.step_of(worker, format!("attempt {} at task {task} begins", self.number(epoch)));
        }
    }

    /// An attempt failed.
    pub(super) fn attempt_failed(
        &self,
        (worker, task, epoch): (WorkerId, TaskId, Epoch),
        kind: ErrorKind,
        why: &Error,
    ) {
        let then = match kind {
            ErrorKind::Transient => "; the task is tried again",
            ErrorKind::WorkerLocal => "; another worker may try",
            ErrorKind::Permanent => "; the merge ends",
            // It was overtaken, or is given back by a worker that leaves.
            ErrorKind::Stale => return,
        };
        let text = format!("attempt {} at task {task} failed{then}: {}", self.number(epoch), why.message());
        self.fault_of(worker, text, why.advice());
    }

    /// Which attempt of this run it is, from 1.
    fn number(&self, epoch: Epoch) -> u32 {
        epoch.0.saturating_sub(self.first.0).saturating_add(1)
    }
}
