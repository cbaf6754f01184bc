//! Workers that were set aside, and when a merge has no hope left because of it.

use std::collections::HashMap;
use std::time::Duration;

use shardfuse_merge::Error;

use crate::schedule::WorkerId;

/// The workers of a merge that failed by their own fault.
#[derive(Debug)]
pub(super) struct Aside {
    patience: Duration,
    /// The last failure of each worker's own.
    last: HashMap<WorkerId, Error>,
    set_aside: HashMap<WorkerId, Error>,
    /// Since when every worker that is there was set aside with the same failure.
    since: Option<Duration>,
}

impl Aside {
    pub(super) fn new(patience: Duration) -> Self {
        Aside { patience, last: HashMap::new(), set_aside: HashMap::new(), since: None }
    }

    pub(super) fn failed(&mut self, worker: WorkerId, error: Error) {
        self.last.insert(worker, error);
    }

    /// Notes that a worker is set aside; returns the failure of its own that did it.
    pub(super) fn set(&mut self, worker: WorkerId, otherwise: Error) -> Error {
        let error = self.last.get(&worker).cloned().unwrap_or(otherwise);
        self.set_aside.insert(worker, error.clone());
        error
    }

    /// The failure that all who are there have in common, once it has been so for long enough: then it is not the
    /// workers' fault, and another one would hardly fare better. While nobody is there, somebody may come.
    pub(super) fn hopeless<'a>(&mut self, now: Duration, present: impl Iterator<Item = &'a WorkerId>) -> Option<Error> {
        let mut common: Option<&Error> = None;
        for worker in present {
            match (self.set_aside.get(worker), common) {
                (Some(error), None) => common = Some(error),
                (Some(error), Some(first)) if error.kind() == first.kind() => {}
                _ => {
                    self.since = None;
                    return None;
                }
            }
        }
        let error = match common {
            Some(error) => error.clone(),
            None => {
                self.since = None;
                return None;
            }
        };
        let since = *self.since.get_or_insert(now);
        (now.saturating_sub(since) >= self.patience).then_some(error)
    }
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::Kind;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn error(kind: Kind) -> Error {
        Error::new(kind, "out of room")
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn one_failure_of_all_ends_the_merge_after_a_while() {
        let mut aside = Aside::new(PATIENCE);
        let workers = [WorkerId(1), WorkerId(2)];
        aside.set(WorkerId(1), error(Kind::NoSpace));
        assert_eq!(aside.hopeless(seconds(0), workers.iter()), None);
        aside.set(WorkerId(2), error(Kind::NoSpace));
        assert_eq!(aside.hopeless(seconds(100), workers.iter()), None);
        assert_eq!(aside.hopeless(seconds(159), workers.iter()), None);
        assert_eq!(aside.hopeless(seconds(160), workers.iter()), Some(error(Kind::NoSpace)));
    }

    #[test]
    fn a_new_worker_or_none_or_another_failure_keeps_it_alive() {
        let mut aside = Aside::new(PATIENCE);
        aside.set(WorkerId(1), error(Kind::NoSpace));
        aside.set(WorkerId(2), error(Kind::Io));
        assert_eq!(aside.hopeless(seconds(0), [WorkerId(1)].iter()), None);
        for present in [vec![], vec![WorkerId(1), WorkerId(3)], vec![WorkerId(1), WorkerId(2)]] {
            assert_eq!(aside.hopeless(seconds(100), present.iter()), None, "{present:?}");
            assert_eq!(aside.hopeless(seconds(101), [WorkerId(1)].iter()), None, "the time begins anew");
        }
    }
}
