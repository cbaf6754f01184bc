//! The workers, and which of them have a free slot.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::id::{Epoch, TaskId, WorkerId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// Not heard of for a lease. It may still run, and its next heartbeat brings it back.
    Lost,
    Left,
}

#[derive(Debug, Clone)]
pub(super) struct ScheduledWorker {
    pub(super) presence: Presence,
    pub(super) slots: u32,
    pub(super) draining: bool,
    /// Kept when the worker joins again: a machine with a full disk must not clear its record by restarting.
    pub(super) quarantined: bool,
    /// Errors of its own since it last finished a task.
    pub(super) strikes: u32,
    /// When it was last heard of.
    pub(super) seen: Duration,
    /// When one of its attempts last went on.
    pub(super) moved: Option<Duration>,
    /// How often its attempts stood still since it last finished a task. Kept when it joins again, as the bench is.
    pub(super) stalls: u32,
    /// Until when it gets nothing new, because its attempts stood still.
    pub(super) benched: Option<Duration>,
    pub(super) running: BTreeSet<(TaskId, Epoch)>,
    /// What it was given last, and that task's affinity.
    pub(super) last: Option<(TaskId, u64)>,
}

impl ScheduledWorker {
    fn new(now: Duration) -> Self {
        Self {
            presence: Presence::Left,
            slots: 0,
            draining: false,
            quarantined: false,
            strikes: 0,
            seen: now,
            moved: None,
            stalls: 0,
            benched: None,
            running: BTreeSet::new(),
            last: None,
        }
    }

    pub(super) fn is_here(&self) -> bool {
        self.presence == Presence::Here
    }

    /// Whether it could get tasks, if it had slots for this merge.
    fn is_willing(&self) -> bool {
        self.is_here() && !self.draining && !self.quarantined && self.benched.is_none()
    }

    fn is_able(&self) -> bool {
        self.is_willing() && self.slots > 0
    }

    /// Its place among the workers with a free slot, if it has one: by how much it runs.
    fn load(&self) -> Option<usize> {
        (self.is_able() && self.running.len() < self.slots as usize).then_some(self.running.len())
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Workers {
    all: BTreeMap<WorkerId, ScheduledWorker>,
    /// Those that can take a task, the least loaded first.
    free: BTreeSet<(usize, WorkerId)>,
    able: usize,
}

impl Workers {
    pub(super) fn get(&self, id: WorkerId) -> Option<&ScheduledWorker> {
        self.all.get(&id)
    }

    /// The worker under `id`, made anew when it is unknown, changed by `change`.
    pub(super) fn enter(&mut self, id: WorkerId, now: Duration, change: impl FnOnce(&mut ScheduledWorker)) {
        self.all.entry(id).or_insert_with(|| ScheduledWorker::new(now));
        self.update(id, change);
    }

    /// The only way to change a worker, so that the set of free ones follows.
    pub(super) fn update<T>(&mut self, id: WorkerId, change: impl FnOnce(&mut ScheduledWorker) -> T) -> Option<T> {
        let worker = self.all.get_mut(&id)?;
        if let Some(load) = worker.load() {
            self.free.remove(&(load, id));
        }
        self.able -= usize::from(worker.is_able());
        let result = change(worker);
        self.able += usize::from(worker.is_able());
        if let Some(load) = worker.load() {
            self.free.insert((load, id));
        }
        Some(result)
    }

    /// Notes that an attempt of a worker went on.
    pub(super) fn moved(&mut self, id: WorkerId, now: Duration) {
        self.update(id, |worker| {
            worker.moved = Some(now);
            worker.benched = None;
        });
    }

    /// How many are there and may get tasks.
    pub(super) fn able(&self) -> usize {
        self.able
    }

    pub(super) fn nobody_is_free(&self) -> bool {
        self.free.is_empty()
    }

    /// Workers with a free slot, the least loaded first.
    pub(super) fn free(&self) -> impl Iterator<Item = WorkerId> {
        self.free.iter().map(|(_, id)| *id)
    }

    pub(super) fn least_loaded(&self) -> Option<WorkerId> {
        self.free().next()
    }

    /// Workers on the bench for which `which` holds of the time at which they may leave it.
    pub(super) fn benched(&self, which: impl Fn(Duration) -> bool) -> Vec<WorkerId> {
        self.all.iter().filter(|(_, worker)| worker.benched.is_some_and(&which)).map(|(id, _)| *id).collect()
    }

    /// Whether anybody could get tasks, if it had slots.
    pub(super) fn somebody_is_willing(&self) -> bool {
        self.all.values().any(ScheduledWorker::is_willing)
    }

    /// Two workers, if there are as many, that show that work is possible: they went on within a lease, or do nothing here
    /// and could.
    pub(super) fn witnesses(&self, now: Duration, lease: Duration) -> Vec<WorkerId> {
        let shows = |worker: &ScheduledWorker| {
            let moves = worker.is_here() && worker.moved.is_some_and(|moved| now < moved.saturating_add(lease));
            moves || worker.is_willing() && worker.running.is_empty()
        };
        self.all.iter().filter(|(_, worker)| shows(worker)).map(|(id, _)| *id).take(2).collect()
    }

    /// Workers that were not heard of for a lease.
    pub(super) fn silent(&self, now: Duration, lease: Duration) -> Vec<WorkerId> {
        let silent = self.all.iter().filter(|(_, worker)| worker.is_here() && worker.seen.saturating_add(lease) <= now);
        silent.map(|(id, _)| *id).collect()
    }
}
