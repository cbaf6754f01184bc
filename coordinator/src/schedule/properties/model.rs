//! What the schedule has to do, said a second time and in the plainest way: sets, full scans, no queues.
//!
//! Everything but assignments follows from the event alone ([`super::expected`]) and is compared as it is. Which task goes to
//! whom is checked in [`super::placed`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::Check;
use crate::schedule::{
    AbortReason, Action, Effort, Epoch, Event, Limits, Piece, Receipt, Schedule, TaskId, TaskSpec, WorkerId,
};

#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) worker: WorkerId,
    pub(super) epoch: Epoch,
    pub(super) started: Duration,
    pub(super) deadline: Duration,
    pub(super) given: u32,
    pub(super) open: BTreeSet<Piece>,
    pub(super) effort: Effort,
    pub(super) still: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) slots: u32,
    pub(super) here: bool,
    pub(super) left: bool,
    pub(super) draining: bool,
    pub(super) quarantined: bool,
    pub(super) strikes: u32,
    pub(super) seen: Duration,
    pub(super) last: Option<TaskId>,
    pub(super) moved: Option<Duration>,
    pub(super) stalls: u32,
    pub(super) benched: Option<Duration>,
}

impl Seat {
    pub(super) fn is_willing(&self) -> bool {
        self.here && !self.draining && !self.quarantined && self.benched.is_none()
    }

    pub(super) fn is_able(&self) -> bool {
        self.is_willing() && self.slots > 0
    }
}

pub(super) struct Model {
    pub(super) specs: Vec<TaskSpec>,
    pub(super) limits: Limits,
    pub(super) first: Epoch,
    pub(super) now: Duration,
    pub(super) ticked: Duration,
    pub(super) live: BTreeMap<TaskId, Vec<Live>>,
    pub(super) seats: BTreeMap<WorkerId, Seat>,
    pub(super) accepted: BTreeMap<(TaskId, Piece), Receipt>,
    pub(super) persisted: BTreeSet<(TaskId, Piece)>,
    pub(super) unacked: BTreeMap<(TaskId, Piece), BTreeSet<(WorkerId, Epoch)>>,
    pub(super) closers: BTreeMap<TaskId, (WorkerId, Epoch)>,
    pub(super) begun: BTreeMap<TaskId, u32>,
    pub(super) failures: BTreeMap<TaskId, u32>,
    pub(super) backoffs: BTreeMap<TaskId, Duration>,
    /// How long a piece took in each attempt that finished its task.
    pub(super) paces: Vec<Duration>,
    pub(super) ended: bool,
    pub(super) expired: u64,
    pub(super) stalled: u64,
    pub(super) duplicates: u64,
    pub(super) stale: u64,
    journaled: usize,
}

impl Model {
    pub(super) fn new(specs: Vec<TaskSpec>, limits: Limits, first: Epoch, done: Vec<(TaskId, Piece, Receipt)>) -> Self {
        Self {
            specs,
            limits,
            first,
            now: Duration::ZERO,
            ticked: Duration::ZERO,
            live: BTreeMap::new(),
            seats: BTreeMap::new(),
            journaled: done.len(),
            persisted: done.iter().map(|(task, piece, _)| (*task, *piece)).collect(),
            accepted: done.into_iter().map(|(task, piece, receipt)| ((task, piece), receipt)).collect(),
            unacked: BTreeMap::new(),
            closers: BTreeMap::new(),
            begun: BTreeMap::new(),
            failures: BTreeMap::new(),
            backoffs: BTreeMap::new(),
            paces: Vec::new(),
            ended: false,
            expired: 0,
            stalled: 0,
            duplicates: 0,
            stale: 0,
        }
    }

    pub(super) fn lease(&self) -> Duration {
        self.limits.lease
    }

    pub(super) fn has_not_left(&self, worker: WorkerId) -> bool {
        self.seats.get(&worker).is_some_and(|seat| !seat.left)
    }

    pub(super) fn somebody_is_quarantined(&self) -> bool {
        self.seats.values().any(|seat| seat.quarantined)
    }

    /// Takes in a step of the schedule, and says what is wrong with it.
    pub(super) fn observe(&mut self, now: Duration, event: &Event, actions: &[Action], schedule: &Schedule) -> Check {
        self.now = self.now.max(now);
        let had_ended = self.ended;
        let mut expected = Vec::new();
        if had_ended {
            self.answer_late(event, &mut expected);
        } else {
            self.follow(event, &mut expected);
            if !self.ended && self.persisted.len() == self.all_pieces() {
                self.ended = true;
                expected.push(Action::Publish);
            }
        }
        let is_assignment = |action: &Action| matches!(action, Action::Assign { .. });
        let mut from_first = actions.iter().skip_while(|action| !is_assignment(action));
        prop_assert!(from_first.all(is_assignment), "assignments are not last: {:?}", actions);
        let (assigned, others): (Vec<_>, Vec<_>) = actions.iter().cloned().partition(is_assignment);
        if others != expected {
            prop_assert_eq!(sorted(others), sorted(expected), "after {:?}", event);
        }
        prop_assert!(!self.ended || assigned.is_empty(), "work after the end: {:?}", assigned);
        if !self.ended {
            self.check_assignments(event, assigned)?;
        }
        self.compare(schedule)
    }

    fn all_pieces(&self) -> usize {
        self.specs.iter().map(|spec| spec.pieces.len()).sum()
    }

    /// What anybody can ask the schedule for.
    fn compare(&self, schedule: &Schedule) -> Check {
        for id in (0..).map(TaskId).take(self.specs.len()) {
            for (piece, receipt) in schedule.receipts(id) {
                prop_assert_eq!(self.accepted.get(&(id, piece)), Some(receipt), "an accepted receipt changed");
            }
        }
        let (progress, counters) = (schedule.progress(), schedule.counters());
        if !self.ended {
            prop_assert_eq!(schedule.demand() as usize, self.could_use());
        }
        let benched = self.seats.iter().filter(|(_, seat)| seat.benched.is_some()).map(|(worker, _)| *worker);
        prop_assert_eq!(schedule.benched(), benched.collect::<BTreeSet<_>>());
        prop_assert_eq!(progress.pieces_done, self.persisted.len() as u64);
        prop_assert_eq!((progress.waiting + progress.running + progress.done) as usize, self.specs.len());
        let done = (0..).map(TaskId).take(self.specs.len()).filter(|id| self.is_done(*id)).count();
        prop_assert_eq!(progress.done as usize, done);
        prop_assert_eq!(counters.retries_by.total(), counters.retries);
        prop_assert_eq!(counters.accepted, (self.accepted.len() - self.journaled) as u64);
        let counted = (counters.duplicates, counters.stale, counters.expired, counters.stalled);
        prop_assert_eq!(counted, (self.duplicates, self.stale, self.expired, self.stalled));
        Ok(())
    }

    pub(super) fn attempt(&mut self, worker: WorkerId, task: TaskId, epoch: Epoch) -> Option<&mut Live> {
        self.live.get_mut(&task)?.iter_mut().find(|live| live.worker == worker && live.epoch == epoch)
    }

    pub(super) fn running(&self, worker: WorkerId) -> Vec<(TaskId, Epoch)> {
        let all = self.live.iter().flat_map(|(task, live)| live.iter().map(move |live| (*task, live)));
        all.filter(|(_, live)| live.worker == worker).map(|(task, live)| (task, live.epoch)).collect()
    }

    pub(super) fn missing(&self, task: TaskId) -> Vec<Piece> {
        let mut pieces = self.specs[task.0 as usize].pieces.clone();
        pieces.retain(|piece| !self.accepted.contains_key(&(task, *piece)));
        pieces
    }

    pub(super) fn is_done(&self, task: TaskId) -> bool {
        self.specs[task.0 as usize].pieces.iter().all(|piece| self.persisted.contains(&(task, *piece)))
    }
}

/// In an order that does not depend on how the actions came about, and without the words about what ended a last attempt.
fn sorted(actions: Vec<Action>) -> Vec<Action> {
    let mut actions = actions;
    for action in &mut actions {
        if let Action::Abort { reason: AbortReason::Exhausted { message, .. } } = action {
            message.clear();
        }
    }
    actions.sort_by_cached_key(|action| format!("{action:?}"));
    actions
}
