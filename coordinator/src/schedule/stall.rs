//! Attempts that live and do nothing: they go to other workers.
//!
//! A heartbeat keeps a lease, and says how far each attempt is. An attempt whose counters stand still for
//! [`Limits::still_leases`](super::limits::Limits::still_leases) is ended, if somebody else could show meanwhile that work is
//! possible: another worker that moves, or one that does nothing for this merge. While nobody else could (the store is away, or there
//! is one worker), the time does not count.
//!
//! Nothing is held against the task. Its worker waits on the bench: it gets nothing new until another of its attempts moves,
//! or the time is over. That time doubles with each stall until the worker finishes a task.

use std::time::Duration;

use super::action::Action;
use super::cause::End;
use super::effort::Effort;
use super::id::{Piece, WorkerId};
use super::machine::Schedule;
use super::task::Attempt;

/// Doublings of the time on the bench, at the most.
const DOUBLINGS: u32 = 6;

impl Attempt {
    /// Takes in what a heartbeat tells. Returns whether the attempt went on since the last one.
    pub(super) fn shows(&mut self, effort: Effort) -> bool {
        let most = self.effort.most(effort);
        let moved = most != self.effort;
        if moved {
            self.effort = most;
            self.still = Duration::ZERO;
        }
        moved
    }

    /// Takes in that a piece was finished. Returns whether it is the first that is heard of it.
    pub(super) fn finishes(&mut self, piece: Piece) -> bool {
        let moved = self.open.remove(&piece);
        if moved {
            self.still = Duration::ZERO;
        }
        moved
    }
}

impl Schedule {
    /// Ends attempts that stood still for too long. Looked at on a tick only: it goes through all that runs.
    pub(super) fn watch_effort(&mut self, out: &mut Vec<Action>) {
        // After a jump of the clock heartbeats may still wait in a queue.
        let passed = self.now.saturating_sub(self.ticked).min(self.limits.lease);
        self.ticked = self.now;
        self.unbench();
        let (now, lease, timeout) = (self.now, self.limits.lease, self.limits.stall_timeout());
        let witnesses = self.workers.witnesses(now, lease);
        let mut over = Vec::new();
        for &id in &self.running {
            for attempt in self.tasks[id.0 as usize].attempts_mut() {
                if witnesses.iter().any(|witness| *witness != attempt.worker) {
                    attempt.still = attempt.still.saturating_add(passed);
                }
                if attempt.still >= timeout {
                    over.push((id, attempt.epoch, attempt.worker));
                }
            }
        }
        for &(task, epoch, _) in &over {
            self.end(task, epoch, &End::Stalled, out);
        }
        let mut idlers: Vec<WorkerId> = over.into_iter().map(|(.., worker)| worker).collect();
        idlers.sort_unstable();
        idlers.dedup();
        for worker in idlers {
            self.workers.update(worker, |worker| {
                worker.stalls += 1;
                let doublings = (worker.stalls - 1).min(DOUBLINGS);
                worker.benched = Some(now.saturating_add(timeout.saturating_mul(1 << doublings)));
            });
            out.push(Action::Stalled { worker });
        }
    }

    /// Takes workers back whose time is over; all of them, if nobody else could work.
    fn unbench(&mut self) {
        let all = !self.workers.somebody_is_willing();
        for worker in self.workers.benched(|until| all || until <= self.now) {
            self.workers.update(worker, |worker| worker.benched = None);
        }
    }
}
