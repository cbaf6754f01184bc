//! Tasks that could start now, ordered so that choosing one looks at a handful of entries whatever their number.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use super::id::TaskId;

#[derive(Debug, Clone, Default)]
pub(super) struct ReadyTasks {
    by_affinity: BTreeMap<u64, BTreeSet<TaskId>>,
    /// How many tasks are in there.
    count: usize,
    /// How many live attempts each affinity has.
    in_use: BTreeMap<u64, u32>,
    /// The first ready task of every affinity that nobody works on.
    idle: BTreeSet<(TaskId, u64)>,
    /// The first ready task of every affinity that somebody works on.
    busy: BTreeSet<(TaskId, u64)>,
}

impl ReadyTasks {
    pub(super) fn is_empty(&self) -> bool {
        self.by_affinity.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, task: TaskId, affinity: u64) {
        self.change(affinity, |ready| {
            ready.count += usize::from(ready.by_affinity.entry(affinity).or_default().insert(task));
        });
    }

    pub(super) fn remove(&mut self, task: TaskId, affinity: u64) {
        self.change(affinity, |ready| {
            if let Some(tasks) = ready.by_affinity.get_mut(&affinity) {
                ready.count -= usize::from(tasks.remove(&task));
                if tasks.is_empty() {
                    ready.by_affinity.remove(&affinity);
                }
            }
        });
    }

    pub(super) fn attempt_began(&mut self, affinity: u64) {
        self.change(affinity, |ready| *ready.in_use.entry(affinity).or_default() += 1);
    }

    pub(super) fn attempt_ended(&mut self, affinity: u64) {
        self.change(affinity, |ready| {
            if let Some(attempts) = ready.in_use.get_mut(&affinity) {
                *attempts = attempts.saturating_sub(1);
                if *attempts == 0 {
                    ready.in_use.remove(&affinity);
                }
            }
        });
    }

    /// The next task for somebody who did `last` of this affinity: the one that follows, or else the first.
    pub(super) fn following(&self, (last, affinity): (TaskId, u64)) -> Option<TaskId> {
        let tasks = self.by_affinity.get(&affinity)?;
        tasks.range((Excluded(last), Unbounded)).next().or_else(|| tasks.first()).copied()
    }

    /// The first task of an affinity that nobody works on, or else the first of all.
    pub(super) fn first(&self) -> Option<TaskId> {
        self.idle.first().or_else(|| self.busy.first()).map(|(task, _)| *task)
    }

    /// Changes something about `affinity`, and puts its first task into the set where it then belongs.
    fn change(&mut self, affinity: u64, change: impl FnOnce(&mut Self)) {
        if let Some(head) = self.head(affinity) {
            self.idle.remove(&head);
            self.busy.remove(&head);
        }
        change(self);
        if let Some(head) = self.head(affinity) {
            let heads = if self.in_use.contains_key(&affinity) { &mut self.busy } else { &mut self.idle };
            heads.insert(head);
        }
    }

    fn head(&self, affinity: u64) -> Option<(TaskId, u64)> {
        let first = self.by_affinity.get(&affinity)?.first()?;
        Some((*first, affinity))
    }
}
