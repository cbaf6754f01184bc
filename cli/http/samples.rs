//! Throughput over the last minutes, of all workers and of each, from what they count; and the pace of each merge.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shardfuse_coordinator::driver::Progress;
use shardfuse_coordinator::hub::{self, WorkerView};
use shardfuse_coordinator::registry::MergeId;
use shardfuse_coordinator::schedule::WorkerId;

use super::pace::Pace;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(2);
/// How many are kept: ten minutes.
const KEPT: usize = 300;
/// Spans that a rate is taken over. Workers tell what they did every five seconds by default: a single span would show nothing, or
/// all of it at once.
const SMOOTHED: usize = 5;

/// Bytes read and written by all workers in one span of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When the span ended.
    pub at: Instant,
    /// Bytes read a second.
    pub read: f64,
    /// Bytes of parts put a second.
    pub written: f64,
}

/// Bytes read and put a second.
pub type Rates = (f64, f64);

/// The last samples.
#[derive(Debug, Default)]
pub struct Samples {
    throughput: Mutex<VecDeque<Sample>>,
    workers: Mutex<BTreeMap<WorkerId, Rates>>,
    pace: Mutex<Pace>,
}

impl Samples {
    /// Begins to sample a hub's workers and merges, until the hub ends.
    pub fn start(hub: hub::Handle) -> Arc<Samples> {
        let samples = Arc::new(Samples::default());
        let kept = Arc::clone(&samples);
        tokio::spawn(async move {
            let mut every = tokio::time::interval(EVERY);
            let mut counts = Counts::default();
            let mut recent = Recent::default();
            let mut each: BTreeMap<WorkerId, Recent> = BTreeMap::new();
            let mut last = Instant::now();
            loop {
                every.tick().await;
                let Ok(workers) = hub.workers().await else { return };
                let Ok(census) = hub.census().await else { return };
                let now = Instant::now();
                kept.pace().note(now, census.active);
                let (did, span) = (counts.since(&workers), now.duration_since(last));
                last = now;
                each.retain(|id, _| did.contains_key(id));
                let rates = did.iter().map(|(id, did)| (*id, each.entry(*id).or_default().rates(*did, span)));
                *kept.workers() = rates.collect();
                let all = did.values().fold((0, 0), |sum, did| (sum.0 + did.0, sum.1 + did.1));
                let (read, written) = recent.rates(all, span);
                kept.add(Sample { at: now, read, written });
            }
        });
        samples
    }

    /// Bytes a second of a worker over the last seconds.
    pub fn of_worker(&self, id: WorkerId) -> Rates {
        self.workers().get(&id).copied().unwrap_or_default()
    }

    /// Bytes a second of a merge over the last minute.
    pub fn of_merge(&self, id: &MergeId) -> Option<f64> {
        self.pace().rate(id)
    }

    /// Seconds to the end of a merge, at the rate since work on it began; none before anything was done.
    pub fn seconds_left(&self, id: &MergeId, progress: &Progress) -> Option<f64> {
        self.pace().seconds(id, progress.bytes_total.saturating_sub(progress.bytes_done))
    }

    /// The samples of throughput, the oldest first.
    pub fn all(&self) -> Vec<Sample> {
        self.throughput.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    fn workers(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Rates>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, sample: Sample) {
        let mut samples = self.throughput.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == KEPT {
            samples.pop_front();
        }
        samples.push_back(sample);
    }
}

/// What each worker counted when it was last looked at: bytes read and put since its process began.
#[derive(Debug, Default)]
struct Counts(BTreeMap<WorkerId, (u64, u64)>);

impl Counts {
    /// What each read and put since the last call. What a worker did before it was first seen is not of now: it may have worked
    /// for days, and this process may have started a moment ago.
    fn since(&mut self, workers: &[WorkerView]) -> BTreeMap<WorkerId, (u64, u64)> {
        let mut did = BTreeMap::new();
        // One that has just connected has told nothing yet.
        let told: Vec<&WorkerView> = workers.iter().filter(|worker| worker.told).collect();
        for worker in &told {
            let now = (worker.bytes_read, worker.bytes_put);
            let seen = self.0.get(&worker.id).copied().unwrap_or(now);
            did.insert(worker.id, (now.0.saturating_sub(seen.0), now.1.saturating_sub(seen.1)));
        }
        self.0.retain(|id, _| workers.iter().any(|worker| worker.id == *id));
        self.0.extend(told.iter().map(|worker| (worker.id, (worker.bytes_read, worker.bytes_put))));
        did
    }
}

/// The last spans: bytes read, bytes written, seconds.
#[derive(Debug, Default)]
struct Recent(VecDeque<(u64, u64, f64)>);

impl Recent {
    /// Takes what was read and written in a span, and gives both a second over the last of them.
    fn rates(&mut self, (read, written): (u64, u64), span: Duration) -> (f64, f64) {
        if self.0.len() == SMOOTHED {
            self.0.pop_front();
        }
        self.0.push_back((read, written, span.as_secs_f64()));
        let seconds = self.0.iter().map(|s| s.2).sum::<f64>().max(0.1);
        let sum = |of: fn(&(u64, u64, f64)) -> u64| self.0.iter().map(of).sum::<u64>() as f64 / seconds;
        (sum(|s| s.0), sum(|s| s.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_did_before_it_was_seen_is_in_no_rate() {
        let worker = |told, bytes_put| WorkerView {
            id: WorkerId(1),
            name: "w".into(),
            device_class: "cpu".parse().unwrap(),
            slots: 1,
            memory: 1,
            present: true,
            draining: false,
            running: 1,
            told,
            bytes_put,
            bytes_read: 0,
            memory_used: 0,
            stages: Default::default(),
            silent: Duration::ZERO,
        };
        let mut counts = Counts::default();
        let mut put = |told, bytes_put| counts.since(&[worker(told, bytes_put)]).get(&WorkerId(1)).map(|did| did.1);
        // It connects to a coordinator that has just started; its first heartbeat follows.
        assert_eq!((put(false, 0), put(true, 65_000_000_000)), (None, Some(0)));
        assert_eq!(put(true, 65_000_000_100), Some(100));
        // It connects again.
        assert_eq!((put(false, 0), put(true, 65_000_000_150)), (None, Some(50)));
    }

    #[test]
    fn what_is_told_now_and_then_is_a_rate_all_the_time() {
        let mut recent = Recent::default();
        let span = Duration::from_secs(2);
        // Every five seconds, which is in the second or third span from one telling to the next.
        let told = [0, 50, 0, 50, 0, 0, 50, 0, 50, 0, 0, 50, 0, 50, 0];
        let shown: Vec<f64> = told.into_iter().map(|bytes| recent.rates((bytes, 2 * bytes), span).0).collect();
        assert!(shown[5..].iter().all(|rate| *rate == 10.0), "{shown:?}");
        assert_eq!(recent.rates((50, 100), span).1, 30.0);
    }
}
