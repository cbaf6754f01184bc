//! What people should see of merges and workers is noted where it happens.

use shardfuse_merge::DeviceClass;

use super::actor::Hub;
use crate::happening::{Happening, Happenings};
use crate::registry::MergeId;
use crate::schedule::WorkerId;

impl Hub {
    /// Notes what happened to a worker, also at the merges that run on its class and use it.
    pub(super) fn happened_to(&mut self, id: WorkerId, name: &str, class: &DeviceClass, what: Happening) {
        let what = what.of(Some(name.to_owned()));
        let shares = &self.shares;
        for merge in self.merges.values_mut() {
            let uses = shares.get(&(merge.arrival, id)).is_some_and(|slots| *slots > 0);
            if uses && merge.running().is_some_and(|running| running.class == *class) {
                merge.happenings.add(what.clone());
            }
        }
        self.happenings.add(what);
    }

    /// Notes what a driver tells.
    pub(super) fn happened(&mut self, id: &MergeId, worker: Option<WorkerId>, what: Happening) {
        let name = worker.map(|id| match self.workers.get(&id) {
            Some(worker) => worker.name.clone(),
            None => format!("worker {id}"),
        });
        let what = what.of(name);
        self.fault_of_merge(id, &what);
        if let Some(merge) = self.merges.get_mut(id) {
            merge.happenings.add(what);
        }
    }

    /// Faults of merges are shown among those of the workers too, for those that look at no merge.
    pub(super) fn fault_of_merge(&mut self, id: &MergeId, what: &Happening) {
        if what.fault {
            let text = format!("merge {id}: {}", what.text);
            self.happenings.add(Happening { text, ..what.clone() });
        }
    }

    /// What happened to a merge, or to the workers; `None` for a merge that is not known.
    pub(super) fn happenings(&self, of: Option<&MergeId>) -> Option<Happenings> {
        match of {
            Some(id) => self.merges.get(id).map(|merge| merge.happenings.clone()),
            None => Some(self.happenings.clone()),
        }
    }
}
