//! Attempts that end without their task being done, and what follows for the task.

use super::action::{AbortReason, Action};
use super::cause::{Cause, End};
use super::event::ErrorKind;
use super::id::{Epoch, Reporter, TaskId, WorkerId};
use super::machine::Schedule;
use super::task::Attempt;
use super::worker::Presence;

impl Schedule {
    pub(super) fn task_failed(
        &mut self,
        by: Reporter,
        id: TaskId,
        kind: ErrorKind,
        message: String,
        out: &mut Vec<Action>,
    ) {
        let (worker, epoch) = by;
        self.sign_of_life(worker, Presence::Here);
        let live = self.tasks.get_mut(id.0 as usize).and_then(|task| task.attempt_mut(by));
        if live.is_none() {
            self.counters.stale += 1;
            return;
        }
        match kind {
            ErrorKind::Permanent => {
                self.release(id, epoch);
                self.park(id);
                self.abort(AbortReason::Permanent { task: id, worker, message }, out);
            }
            ErrorKind::WorkerLocal => {
                self.strike(worker, &message, out);
                self.end(id, epoch, &End::Failed { kind, message }, out);
            }
            ErrorKind::Transient | ErrorKind::Stale => self.end(id, epoch, &End::Failed { kind, message }, out),
        }
    }

    fn strike(&mut self, worker: WorkerId, message: &str, out: &mut Vec<Action>) {
        let limit = self.limits.worker_strikes;
        let strikes = self.workers.update(worker, |worker| {
            worker.strikes += 1;
            let over = !worker.quarantined && worker.strikes >= limit;
            worker.quarantined |= over;
            over.then_some(worker.strikes)
        });
        if let Some(Some(strikes)) = strikes {
            out.push(Action::Quarantine { worker, strikes, message: message.to_owned() });
        }
    }

    /// Ends a live attempt; its task waits again if it was the only one, or the merge ends with it.
    pub(super) fn end(&mut self, id: TaskId, epoch: Epoch, why: &End, out: &mut Vec<Action>) {
        // One of several ends of the same step may have aborted the merge.
        if self.outcome.is_some() {
            return;
        }
        let Some(attempt) = self.release(id, epoch) else {
            return;
        };
        let worker = attempt.worker;
        self.counters.expired += u64::from(matches!(why, End::Expired | End::Lost));
        self.counters.stalled += u64::from(matches!(why, End::Stalled));
        if let End::Expired | End::Lost | End::Stalled = why {
            // It may be alive behind a broken connection.
            out.push(Action::Revoke { worker, task: id, epoch });
        }
        let task = &mut self.tasks[id.0 as usize];
        task.ended_by = Some(Cause::of(why));
        if why.counts() {
            task.failures += 1;
            task.last_failure = why.message(worker);
        }
        if task.attempts().next().is_some() {
            return;
        }
        self.park(id);
        let task = &self.tasks[id.0 as usize];
        let (failures, attempts) = (task.failures, task.begun);
        if failures >= self.limits.max_attempts || attempts >= self.limits.attempt_cap {
            // A worker that left while it repeated a failed attempt is not what went wrong.
            let failed = failures >= self.limits.max_attempts;
            let message = if failed { task.last_failure.clone() } else { why.message(worker) };
            self.abort(AbortReason::Exhausted { task: id, failures, attempts, message }, out);
        } else if let End::Failed { .. } = why {
            self.in_backoff.insert((self.now.saturating_add(self.limits.backoff(attempts)), id));
        } else {
            // Time enough has passed, or the fault was not the task's.
            self.ready.insert(id, task.affinity);
        }
    }

    /// Takes a live attempt from its task and its worker.
    pub(super) fn release(&mut self, id: TaskId, epoch: Epoch) -> Option<Attempt> {
        let task = self.tasks.get_mut(id.0 as usize)?;
        let attempt = task.end(epoch)?;
        self.ready.attempt_ended(task.affinity);
        self.workers.update(attempt.worker, |worker| worker.running.remove(&(id, epoch)));
        Some(attempt)
    }

    /// Counts a task without live attempts as waiting.
    pub(super) fn park(&mut self, id: TaskId) {
        if self.tasks[id.0 as usize].attempts().next().is_none() && self.running.remove(&id) {
            self.progress.running -= 1;
            self.progress.waiting += 1;
        }
    }
}
