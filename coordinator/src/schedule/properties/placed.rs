//! Whether an assignment is one that the rules allow, and whether one is missing.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::Check;
use super::model::{Live, Model};
use crate::schedule::{Action, Effort, Epoch, Event, Piece, TaskId, WorkerId};

impl Model {
    pub(super) fn check_assignments(&mut self, event: &Event, actions: Vec<Action>) -> Check {
        let mut repeated = false;
        for action in actions {
            let Action::Assign { worker, task, epoch, pieces, lease } = action else {
                continue;
            };
            prop_assert_eq!(lease, self.limits.lease);
            self.check_worker(worker)?;
            self.check_task(task, epoch, &pieces)?;
            if self.live_at(task).is_empty() {
                prop_assert!(!repeated, "a repeat came before a task that was ready");
                self.check_choice(worker, task)?;
            } else {
                prop_assert!(matches!(event, Event::Tick), "a repeat at {:?}", event);
                self.check_repeat(worker, task)?;
                repeated = true;
            }
            self.begin(worker, task, epoch, pieces);
            prop_assert!(self.live_at(task).len() <= 2, "three live attempts at task {}", task);
        }
        if matches!(event, Event::Tick) {
            self.check_no_repeat_is_missing()?;
        }
        let free = self.seats.keys().find(|worker| self.has_room(**worker));
        let ready = self.ready();
        prop_assert!(free.is_none() || ready.is_empty(), "{:?} is free and {:?} are ready", free, ready);
        Ok(())
    }

    fn check_worker(&self, worker: WorkerId) -> Check {
        let Some(seat) = self.seats.get(&worker) else {
            return Err(TestCaseError::fail(format!("work for worker {worker}, which never joined")));
        };
        prop_assert!(seat.here && !seat.left, "work for worker {}, which is not there", worker);
        prop_assert!(!seat.draining, "work for worker {}, which is draining", worker);
        prop_assert!(!seat.quarantined, "work for worker {}, which is quarantined", worker);
        prop_assert!(seat.benched.is_none(), "work for worker {}, which is on the bench", worker);
        prop_assert!(self.has_room(worker), "work for worker {}, which has no free slot", worker);
        Ok(())
    }

    fn check_task(&self, task: TaskId, epoch: Epoch, pieces: &[Piece]) -> Check {
        for before in &self.specs[task.0 as usize].after {
            prop_assert!(self.is_done(*before), "task {} before task {}", task, before);
        }
        prop_assert_eq!(pieces, self.missing(task), "not the missing pieces of task {}", task);
        prop_assert!(!pieces.is_empty());
        let begun = self.begun.get(&task).copied().unwrap_or(0);
        prop_assert_eq!(epoch, Epoch(self.first.0 + begun), "not the next epoch of task {}", task);
        prop_assert!(begun < self.limits.attempt_cap, "task {} beyond the cap", task);
        let failures = self.failures.get(&task).copied().unwrap_or(0);
        prop_assert!(failures < self.limits.max_attempts, "task {} beyond its attempts", task);
        Ok(())
    }

    /// A first attempt, or a retry: the one that follows the worker's last, or the first of an affinity nobody is at.
    fn check_choice(&self, worker: WorkerId, task: TaskId) -> Check {
        let ready = self.ready();
        prop_assert!(ready.contains(&task), "task {} is in backoff", task);
        let in_use: BTreeSet<u64> =
            self.live.iter().filter(|(_, live)| !live.is_empty()).map(|(task, _)| self.affinity(*task)).collect();
        let last = self.seats[&worker].last;
        let same: Vec<TaskId> = ready
            .iter()
            .copied()
            .filter(|id| last.is_some_and(|last| self.affinity(*id) == self.affinity(last)))
            .collect();
        let following = same.iter().copied().find(|id| last.is_some_and(|last| *id > last));
        let untouched = ready.iter().copied().find(|id| !in_use.contains(&self.affinity(*id)));
        let choice = following.or(same.first().copied()).or(untouched).or(ready.first().copied());
        prop_assert_eq!(Some(task), choice);
        Ok(())
    }

    fn check_repeat(&self, worker: WorkerId, task: TaskId) -> Check {
        prop_assert!(self.ready().is_empty(), "a repeat of task {} while others are ready", task);
        let [only] = self.live_at(task) else {
            return Err(TestCaseError::fail(format!("a third attempt at task {task}")));
        };
        prop_assert_ne!(only.worker, worker, "a repeat of task {} on its own worker", task);
        prop_assert!(self.is_slow(only), "a repeat of task {}, which is not slow", task);
        Ok(())
    }

    /// Whether an attempt took longer than the factor times the median of the last 32 that finished, by the piece.
    fn is_slow(&self, live: &Live) -> bool {
        let mut lately: Vec<Duration> = self.paces.iter().rev().take(32).copied().collect();
        lately.sort();
        let typical = lately.get(lately.len() / 2);
        typical.is_some_and(|typical| self.now - live.started > *typical * self.limits.slow_factor * live.given)
    }

    /// Slots that stay free after a tick although a lone slow attempt could be repeated there.
    fn check_no_repeat_is_missing(&self) -> Check {
        for (task, live) in &self.live {
            let [only] = live.as_slice() else { continue };
            let may_fail = self.failures.get(task).copied().unwrap_or(0) < self.limits.max_attempts;
            let may_begin = self.begun[task] + 1 < self.limits.attempt_cap;
            if may_fail && may_begin && self.is_slow(only) && self.ready().is_empty() {
                let helper = self.seats.keys().find(|worker| **worker != only.worker && self.has_room(**worker));
                prop_assert!(helper.is_none(), "{:?} is free to repeat task {}", helper, task);
            }
        }
        Ok(())
    }

    fn begin(&mut self, worker: WorkerId, task: TaskId, epoch: Epoch, pieces: Vec<Piece>) {
        let given = u32::try_from(pieces.len()).expect("a few");
        let (started, deadline) = (self.now, self.now + self.limits.lease);
        let open = pieces.into_iter().collect();
        let (effort, still) = (Effort::default(), Duration::ZERO);
        let live = Live { worker, epoch, started, deadline, given, open, effort, still };
        self.live.entry(task).or_default().push(live);
        *self.begun.entry(task).or_default() += 1;
        self.backoffs.remove(&task);
        self.seats.get_mut(&worker).expect("it was checked").last = Some(task);
    }

    fn has_room(&self, worker: WorkerId) -> bool {
        let seat = &self.seats[&worker];
        seat.is_able() && self.running(worker).len() < seat.slots as usize
    }

    /// Tasks that could start now, in order.
    fn ready(&self) -> Vec<TaskId> {
        let all = (0..).map(TaskId).take(self.specs.len());
        all.filter(|id| {
            let backoff_is_over = self.backoffs.get(id).is_none_or(|until| *until <= self.now);
            let free = self.specs[id.0 as usize].after.iter().all(|before| self.is_done(*before));
            backoff_is_over && free && self.live_at(*id).is_empty() && !self.missing(*id).is_empty()
        })
        .collect()
    }

    /// Tasks that run, and those that nothing but time or a free slot keeps from running.
    pub(super) fn could_use(&self) -> usize {
        let all = (0..).map(TaskId).take(self.specs.len());
        all.filter(|id| {
            let free = self.specs[id.0 as usize].after.iter().all(|before| self.is_done(*before));
            !self.live_at(*id).is_empty() || (free && !self.missing(*id).is_empty())
        })
        .count()
    }

    fn live_at(&self, task: TaskId) -> &[Live] {
        self.live.get(&task).map_or(&[], Vec::as_slice)
    }

    fn affinity(&self, task: TaskId) -> u64 {
        self.specs[task.0 as usize].affinity
    }
}
