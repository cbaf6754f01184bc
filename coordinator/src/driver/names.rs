//! The names of a merge's workers, for people. A worker that left keeps its name here.

use std::collections::BTreeMap;

use crate::schedule::WorkerId;

/// The names, by the workers' numbers. A worker of an earlier run, or one that gave no name, has none.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<WorkerId, String>);

impl Names {
    /// Notes a worker that joins.
    pub(super) fn note(&mut self, worker: WorkerId, name: String) {
        if !name.is_empty() {
            self.0.insert(worker, name);
        }
    }

    /// The name of a worker, for a log line that has its number too.
    pub(super) fn of(&self, worker: WorkerId) -> Option<&str> {
        self.0.get(&worker).map(String::as_str)
    }

    /// The worker in a sentence.
    pub(super) fn called(&self, worker: WorkerId) -> String {
        self.of(worker).map_or_else(|| format!("worker {worker}"), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_called_by_its_name_and_by_its_number_where_it_has_none() {
        let mut names = Names::default();
        names.note(WorkerId(7), "pod-7".into());
        names.note(WorkerId(8), String::new());
        assert_eq!([7, 8, 9].map(|id| names.called(WorkerId(id))), ["pod-7", "worker 8", "worker 9"]);
    }
}
