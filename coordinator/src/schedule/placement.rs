//! Which free worker does which ready task.

use std::collections::BTreeSet;
use std::time::Duration;

use super::action::Action;
use super::effort::Effort;
use super::id::{Epoch, TaskId, WorkerId};
use super::machine::Schedule;
use super::task::Attempt;

impl Schedule {
    /// Gives out ready tasks until there are none, or no free slot.
    ///
    /// First every worker goes on with the affinity it has in memory, one slot each in turn; only then are other affinities
    /// opened, the least loaded worker first. In one pass a worker without history could take the task for which its
    /// neighbour holds the factors.
    ///
    /// At the end of every step either no task is ready or nobody is free, so the rounds below only ever meet what this
    /// step added.
    pub(super) fn place(&mut self, out: &mut Vec<Action>) {
        self.wake();
        loop {
            if self.ready.is_empty() || self.workers.nobody_is_free() {
                return;
            }
            let free: Vec<WorkerId> = self.workers.free().collect();
            let mut moved = false;
            for worker in free {
                if let Some(task) = self.continuation(worker) {
                    moved |= self.assign(worker, task, out);
                }
            }
            if !moved {
                break;
            }
        }
        while let Some(worker) = self.workers.least_loaded() {
            let Some(task) = self.continuation(worker).or_else(|| self.ready.first()) else {
                return;
            };
            if !self.assign(worker, task, out) {
                return;
            }
        }
    }

    /// Makes ready what has rested long enough.
    fn wake(&mut self) {
        while let Some(&(until, task)) = self.in_backoff.first()
            && until <= self.now
        {
            self.in_backoff.pop_first();
            self.ready.insert(task, self.tasks[task.0 as usize].affinity);
        }
    }

    /// The ready task that continues what `worker` did last.
    fn continuation(&self, worker: WorkerId) -> Option<TaskId> {
        self.ready.following(self.workers.get(worker)?.last?)
    }

    /// Begins an attempt. False, and nothing happens, if the task can have no further one.
    pub(super) fn assign(&mut self, worker: WorkerId, id: TaskId, out: &mut Vec<Action>) -> bool {
        let task = &mut self.tasks[id.0 as usize];
        let open: BTreeSet<_> = task.missing().collect();
        let pieces = open.iter().copied().collect();
        let earlier = task.begun;
        let repeats = task.attempts().next().is_some();
        let epoch = Epoch(self.first_epoch.0 + earlier);
        let attempt = Attempt {
            worker,
            epoch,
            started: self.now,
            deadline: self.now.saturating_add(self.limits.lease),
            given: u32::try_from(open.len()).unwrap_or(u32::MAX),
            open,
            effort: Effort::default(),
            still: Duration::ZERO,
        };
        if task.begin(attempt).is_err() {
            return false;
        }
        let (affinity, ended_by) = (task.affinity, task.ended_by);
        self.running.insert(id);
        self.ready.remove(id, affinity);
        self.ready.attempt_began(affinity);
        self.workers.update(worker, |worker| {
            worker.running.insert((id, epoch));
            worker.last = Some((id, affinity));
        });
        if repeats {
            self.counters.speculated += 1;
        } else {
            if let Some(cause) = ended_by {
                self.counters.retries += 1;
                self.counters.retries_by.note(cause);
            }
            self.progress.waiting -= 1;
            self.progress.running += 1;
        }
        out.push(Action::Assign { worker, task: id, epoch, pieces, lease: self.limits.lease });
        true
    }
}
