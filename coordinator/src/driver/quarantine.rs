//! Quarantined workers, and when a merge must end because all its workers are.

use std::collections::HashMap;
use std::time::Duration;

use shardfuse_merge::Error;

use crate::schedule::WorkerId;

/// The workers of a merge that failed by their own fault, and those that were quarantined for it.
#[derive(Debug)]
pub(super) struct Quarantine {
    timeout: Duration,
    /// The last failure of each worker's own.
    last: HashMap<WorkerId, Error>,
    quarantined: HashMap<WorkerId, Error>,
    /// Since when every connected worker has been quarantined for the same failure.
    since: Option<Duration>,
}

impl Quarantine {
    pub(super) fn new(timeout: Duration) -> Self {
        Quarantine { timeout, last: HashMap::new(), quarantined: HashMap::new(), since: None }
    }

    pub(super) fn failed(&mut self, worker: WorkerId, error: Error) {
        self.last.insert(worker, error);
    }

    /// Notes that a worker is quarantined, and returns the failure that it was quarantined for.
    pub(super) fn set(&mut self, worker: WorkerId, otherwise: Error) -> Error {
        let error = self.last.get(&worker).cloned().unwrap_or(otherwise);
        self.quarantined.insert(worker, error.clone());
        error
    }

    /// The failure that quarantined all connected workers, once the timeout is over: then the workers are not at fault, and
    /// another one would fail as well. `None` while no worker is connected, since one may still join.
    pub(super) fn hopeless<'a>(&mut self, now: Duration, present: impl Iterator<Item = &'a WorkerId>) -> Option<Error> {
        let mut common: Option<&Error> = None;
        for worker in present {
            match (self.quarantined.get(worker), common) {
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
        (now.saturating_sub(since) >= self.timeout).then_some(error)
    }
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::Kind;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn error(kind: Kind) -> Error {
        Error::new(kind, "out of room")
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn one_failure_of_all_ends_the_merge_after_a_while() {
        let mut quarantine = Quarantine::new(TIMEOUT);
        let workers = [WorkerId(1), WorkerId(2)];
        quarantine.set(WorkerId(1), error(Kind::NoSpace));
        assert_eq!(quarantine.hopeless(seconds(0), workers.iter()), None);
        quarantine.set(WorkerId(2), error(Kind::NoSpace));
        assert_eq!(quarantine.hopeless(seconds(100), workers.iter()), None);
        assert_eq!(quarantine.hopeless(seconds(159), workers.iter()), None);
        assert_eq!(quarantine.hopeless(seconds(160), workers.iter()), Some(error(Kind::NoSpace)));
    }

    #[test]
    fn a_new_worker_or_none_or_another_failure_keeps_it_alive() {
        let mut quarantine = Quarantine::new(TIMEOUT);
        quarantine.set(WorkerId(1), error(Kind::NoSpace));
        quarantine.set(WorkerId(2), error(Kind::Io));
        assert_eq!(quarantine.hopeless(seconds(0), [WorkerId(1)].iter()), None);
        for present in [vec![], vec![WorkerId(1), WorkerId(3)], vec![WorkerId(1), WorkerId(2)]] {
            assert_eq!(quarantine.hopeless(seconds(100), present.iter()), None, "{present:?}");
            assert_eq!(quarantine.hopeless(seconds(101), [WorkerId(1)].iter()), None, "the time begins anew");
        }
    }
}
