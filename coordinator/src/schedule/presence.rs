//! Workers come, show that they live, and go.

use super::action::Action;
use super::cause::End;
use super::effort::Effort;
use super::id::{Epoch, TaskId, WorkerId};
use super::machine::Schedule;
use super::worker::Presence;

impl Schedule {
    pub(super) fn joined(&mut self, worker: WorkerId, slots: u32) {
        let now = self.now;
        self.workers.enter(worker, now, |worker| {
            // Somebody who was away, or lost, may be another process: it holds no factors.
            if !worker.is_here() {
                worker.last = None;
            }
            worker.presence = Presence::Here;
            worker.slots = slots;
            worker.draining = false;
            worker.seen = now;
        });
    }

    pub(super) fn slots(&mut self, worker: WorkerId, slots: u32) {
        let known = self.workers.update(worker, |worker| worker.slots = slots);
        self.counters.ignored += u64::from(known.is_none());
    }

    pub(super) fn heartbeat(&mut self, worker: WorkerId, running: &[(TaskId, Epoch, Effort)], out: &mut Vec<Action>) {
        if !self.sign_of_life(worker, Presence::Lost) {
            self.counters.ignored += 1;
        }
        let deadline = self.now.saturating_add(self.limits.lease);
        let mut moved = false;
        for &(id, epoch, effort) in running {
            let task = self.tasks.get_mut(id.0 as usize);
            let live = task.is_some_and(|task| match task.attempt_mut((worker, epoch)) {
                Some(attempt) => {
                    attempt.deadline = deadline;
                    moved |= attempt.shows(effort);
                    true
                }
                // It has done all it was asked: the acknowledgement is under way.
                None => task.is_closed_by((worker, epoch)),
            });
            if !live {
                out.push(Action::Revoke { worker, task: id, epoch });
            }
        }
        if moved {
            self.workers.moved(worker, self.now);
        }
    }

    pub(super) fn draining(&mut self, worker: WorkerId) {
        self.sign_of_life(worker, Presence::Here);
        let known = self.workers.update(worker, |worker| {
            // A lost worker keeps the wish for when it comes back.
            worker.draining |= worker.presence != Presence::Left;
            worker.presence != Presence::Left
        });
        self.counters.ignored += u64::from(known != Some(true));
    }

    pub(super) fn left(&mut self, worker: WorkerId, out: &mut Vec<Action>) {
        let was_known = self.workers.update(worker, |worker| {
            let was_known = worker.presence != Presence::Left;
            worker.presence = Presence::Left;
            was_known
        });
        match was_known {
            Some(true) => self.end_all_of(worker, &End::Left, out),
            Some(false) | None => self.counters.ignored += 1,
        }
    }

    /// Leases that have run out, of workers first: theirs end with them.
    pub(super) fn expire(&mut self, out: &mut Vec<Action>) {
        for worker in self.workers.silent(self.now, self.limits.lease) {
            // The end of one of these attempts may have been the end of the merge.
            if self.outcome.is_some() {
                return;
            }
            self.workers.update(worker, |worker| worker.presence = Presence::Lost);
            out.push(Action::WorkerLost { worker });
            self.end_all_of(worker, &End::Lost, out);
        }
        let mut over = Vec::new();
        for &id in &self.running {
            let attempts = self.tasks[id.0 as usize].attempts();
            over.extend(attempts.filter(|attempt| attempt.deadline <= self.now).map(|attempt| (id, attempt.epoch)));
        }
        for (task, epoch) in over {
            self.end(task, epoch, &End::Expired, out);
        }
    }

    /// Notes that `worker` was heard of. `from` is the presence besides [`Presence::Here`] from which that brings it back.
    pub(super) fn sign_of_life(&mut self, worker: WorkerId, from: Presence) -> bool {
        let now = self.now;
        let here = self.workers.update(worker, |worker| {
            let here = worker.is_here() || worker.presence == from;
            if here {
                worker.presence = Presence::Here;
                worker.seen = now;
            }
            here
        });
        here == Some(true)
    }

    fn end_all_of(&mut self, worker: WorkerId, why: &End, out: &mut Vec<Action>) {
        let running = self.workers.get(worker).map(|worker| worker.running.clone()).unwrap_or_default();
        for (task, epoch) in running {
            self.end(task, epoch, why, out);
        }
    }
}
