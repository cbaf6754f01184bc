//! A merge as it stands, in words.

use std::collections::BTreeMap;
use std::time::Instant;

use super::pace::{Pace, time};
use super::state::State;
use crate::size;
use crate::text::escape;

/// Workers that are slower than this share of the median are named the slowest.
const SLOW: f64 = 0.8;

/// What was seen of a merge and its workers.
#[derive(Debug, Default)]
pub struct Words {
    merge: Pace,
    workers: BTreeMap<u64, Pace>,
}

impl Words {
    /// Notes how a merge stands.
    pub fn note(&mut self, now: Instant, state: &State) {
        self.merge.note(now, state.progress.bytes_done);
        self.workers.retain(|id, _| state.workers.iter().any(|worker| worker.id == *id));
        for worker in &state.workers {
            self.workers.entry(worker.id).or_default().note(now, worker.bytes);
        }
    }

    /// The merge: how much of it is done, how fast, and how long it takes at that rate.
    pub fn merge(&self, now: Instant, state: &State) -> String {
        let p = &state.progress;
        let done = format!("{} of {}", size::show(p.bytes_done.min(p.bytes_total)), size::show(p.bytes_total));
        let left = p.bytes_total.saturating_sub(p.bytes_done);
        match (self.merge.rate(now), p.workers) {
            _ if p.publishing => format!("{done}, publishing"),
            (_, 0) => format!("{done}, waiting for a worker"),
            (Some(rate), _) if rate > 0.0 => {
                format!("{done}, {}/s, {} left", size::show(rate as u64), time(left as f64 / rate))
            }
            _ => done,
        }
    }

    /// A line for each worker, the slowest marked. Empty where workers are not known.
    pub fn workers(&self, now: Instant, state: &State) -> Vec<String> {
        let rates: Vec<Option<f64>> =
            state.workers.iter().map(|w| self.workers.get(&w.id).and_then(|pace| pace.rate(now))).collect();
        let mut busy: Vec<f64> = state
            .workers
            .iter()
            .zip(&rates)
            .filter(|(w, _)| w.present && w.running > 0)
            .filter_map(|(_, r)| *r)
            .collect();
        busy.sort_by(f64::total_cmp);
        let median = busy.get(busy.len() / 2).copied().unwrap_or_default();
        let slowest = busy.first().copied().filter(|rate| busy.len() > 1 && *rate < SLOW * median);
        let width = state.workers.iter().map(|w| escape(&w.name).chars().count()).max().unwrap_or(0);
        let line = |(worker, rate): (&super::state::Worker, &Option<f64>)| {
            let name = escape(&worker.name);
            let what = match (worker.present, worker.running, rate) {
                (false, ..) => "away".to_owned(),
                (true, 0, _) => "idle".to_owned(),
                (true, n, Some(rate)) => format!("{}/s, {n} tasks", size::show(*rate as u64)),
                (true, n, None) => format!("{n} tasks"),
            };
            let mark = if worker.running > 0 && rate.is_some() && *rate == slowest { "  slowest" } else { "" };
            format!("  {name:width$}  {what}{mark}")
        };
        state.workers.iter().zip(&rates).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shardfuse_coordinator::Progress;

    use super::super::state::Worker;
    use super::*;

    fn state(done: u64, workers: &[(u64, u64)]) -> State {
        let worker =
            |&(id, bytes): &(u64, u64)| Worker { id, name: format!("w{id}"), present: true, running: 2, bytes };
        let progress = Progress { bytes_done: done, bytes_total: 10_000_000, workers: 2, ..Progress::default() };
        State { progress, workers: workers.iter().map(worker).collect() }
    }

    fn after_ten_seconds(before: &State, after: &State) -> (String, Vec<String>) {
        let (begin, mut words) = (Instant::now(), Words::default());
        words.note(begin, before);
        let now = begin + Duration::from_secs(10);
        words.note(now, after);
        (words.merge(now, after), words.workers(now, after))
    }

    #[test]
    fn a_merge_is_told_with_one_kind_of_units() {
        let (merge, _) = after_ten_seconds(&state(5_000_000, &[]), &state(6_000_000, &[]));
        assert_eq!(merge, "6.0 MB of 10.0 MB, 100.0 kB/s, 40 s left");
    }

    #[test]
    fn without_workers_there_is_no_rate_but_the_reason() {
        let mut none = state(6_000_000, &[]);
        none.progress.workers = 0;
        let (merge, _) = after_ten_seconds(&state(5_000_000, &[]), &none);
        assert_eq!(merge, "6.0 MB of 10.0 MB, waiting for a worker");
    }

    #[test]
    fn every_worker_has_a_line_and_the_slowest_is_marked() {
        let before = state(0, &[(1, 0), (2, 0), (3, 0)]);
        let mut after = state(1, &[(1, 1_000_000), (2, 1_100_000), (3, 200_000)]);
        after.workers[0].name = "longer\u{1b}".into();
        let (_, lines) = after_ten_seconds(&before, &after);
        assert_eq!(
            lines,
            [
                "  longer\\u{1b}  100.0 kB/s, 2 tasks",
                "  w2            110.0 kB/s, 2 tasks",
                "  w3            20.0 kB/s, 2 tasks  slowest"
            ]
        );
        let (_, even) = after_ten_seconds(&state(0, &[(1, 0), (2, 0)]), &state(1, &[(1, 100), (2, 99)]));
        assert!(even.iter().all(|line| !line.contains("slowest")), "{even:?}");
    }
}
