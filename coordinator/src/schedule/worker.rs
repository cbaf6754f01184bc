//! The workers, and which of them have a free slot.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Epoch, TaskId, WorkerId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// Not heard of for a lease. It may still run, and its next heartbeat brings it back.
    Lost,
    Left,
}

#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) presence: Presence,
    pub(super) slots: u32,
    pub(super) draining: bool,
    /// Kept when the worker joins again: a machine with a full disk must not clear its record by restarting.
    pub(super) set_aside: bool,
    /// Errors of its own since it last finished a task.
    pub(super) strikes: u32,
    /// When it was last heard of.
    pub(super) seen: Duration,
    pub(super) running: BTreeSet<(TaskId, Epoch)>,
    /// What it was given last, and that task's affinity.
    pub(super) last: Option<(TaskId, u64)>,
}

impl Worker {
    fn new(now: Duration) -> Self {
        Self {
            presence: Presence::Left,
            slots: 0,
            draining: false,
            set_aside: false,
            strikes: 0,
            seen: now,
            running: BTreeSet::new(),
            last: None,
        }
    }

    pub(super) fn is_here(&self) -> bool {
        self.presence == Presence::Here
    }

    fn is_able(&self) -> bool {
        self.is_here() && !self.draining && !self.set_aside && self.slots > 0
    }

    /// Its place among the workers with a free slot, if it has one: by how much it runs.
    fn load(&self) -> Option<usize> {
        (self.is_able() && self.running.len() < self.slots as usize).then_some(self.running.len())
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Workers {
    all: BTreeMap<WorkerId, Worker>,
    /// Those that can take a task, the least loaded first.
    free: BTreeSet<(usize, WorkerId)>,
    able: usize,
}

impl Workers {
    pub(super) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.all.get(&id)
    }

    /// The worker under `id`, made anew when it is unknown, changed by `change`.
    pub(super) fn enter(&mut self, id: WorkerId, now: Duration, change: impl FnOnce(&mut Worker)) {
        self.all.entry(id).or_insert_with(|| Worker::new(now));
        self.update(id, change);
    }

    /// The only way to change a worker, so that the set of free ones follows.
    pub(super) fn update<T>(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker) -> T) -> Option<T> {
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

    /// Workers that were not heard of for a lease.
    pub(super) fn silent(&self, now: Duration, lease: Duration) -> Vec<WorkerId> {
        let silent = self.all.iter().filter(|(_, worker)| worker.is_here() && worker.seen.saturating_add(lease) <= now);
        silent.map(|(id, _)| *id).collect()
    }
}
