//! How fast merges go: over the last minute, and since work on them began, which says when they end.
//!
//! Not since a merge was submitted: it may have waited in a queue, and one that is gone on with begins with what was kept.
//! Time without a worker is no work.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use shardfuse_coordinator::driver::Progress;
use shardfuse_coordinator::registry::MergeId;

/// How long a sample counts for the rate.
const WINDOW: Duration = Duration::from_secs(60);

/// The course of each active merge.
#[derive(Debug, Default)]
pub struct Pace(BTreeMap<MergeId, Course>);

/// The course of a merge.
#[derive(Debug)]
struct Course {
    /// Bytes that were done when work began.
    began_with: u64,
    /// How long there were workers since.
    worked: Duration,
    /// Bytes that were done, and when; the last one is the newest.
    samples: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// Takes how far every active merge is. Others are forgotten.
    pub fn note(&mut self, now: Instant, active: impl IntoIterator<Item = (MergeId, Progress)>) {
        let mut before = std::mem::take(&mut self.0);
        for (id, progress) in active {
            let course = match before.remove(&id) {
                // It may have lost parts, or begun anew.
                Some(course) if course.done() <= progress.bytes_done => course,
                _ => Course { began_with: progress.bytes_done, worked: Duration::ZERO, samples: VecDeque::new() },
            };
            self.0.insert(id, course.noted(now, &progress));
        }
    }

    /// Seconds until `left` more bytes are done, at the rate since work began; none before anything was done.
    pub fn seconds(&self, id: &MergeId, left: u64) -> Option<f64> {
        let course = self.0.get(id)?;
        let moved = course.done().saturating_sub(course.began_with);
        let worked = course.worked.as_secs_f64();
        (moved > 0 && worked > 0.0).then(|| worked * left as f64 / moved as f64)
    }

    /// Bytes a second over the last minute; none before the second look.
    pub fn rate(&self, id: &MergeId) -> Option<f64> {
        let samples = &self.0.get(id)?.samples;
        let ((first, before), (last, done)) = (samples.front()?, samples.back()?);
        let took = last.saturating_duration_since(*first).as_secs_f64();
        (took > 0.0).then(|| done.saturating_sub(*before) as f64 / took)
    }
}

impl Course {
    fn done(&self) -> u64 {
        self.samples.back().map_or(0, |(_, done)| *done)
    }

    fn noted(mut self, now: Instant, progress: &Progress) -> Course {
        if let Some((last, _)) = self.samples.back()
            && progress.workers > 0
        {
            self.worked += now.saturating_duration_since(*last);
        }
        self.samples.push_back((now, progress.bytes_done));
        while self.samples.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW) {
            self.samples.pop_front();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(bytes_done: u64, workers: u32) -> Progress {
        Progress { bytes_done, workers, ..Progress::default() }
    }

    #[test]
    fn what_is_left_is_told_by_the_time_since_work_began() {
        let id = MergeId::parse("00112233aabbccdd").unwrap();
        let start = Instant::now();
        let mut pace = Pace::default();
        let mut note = |seconds, done, workers| {
            pace.note(start + Duration::from_secs(seconds), [(id.clone(), progress(done, workers))]);
            (pace.seconds(&id, 100), pace.rate(&id))
        };
        // 500 of them were kept from an earlier run.
        assert_eq!(note(0, 500, 0), (None, None), "one look is no rate");
        assert_eq!(note(100, 500, 0), (None, None), "a sample that is alone in the last minute is no rate");
        assert_eq!(note(110, 500, 2), (None, Some(0.0)), "nothing moves");
        assert_eq!(note(120, 520, 2), (Some(100.0), Some(1.0)), "20 bytes in 20 s with workers");
        assert_eq!(note(160, 520, 0), (Some(100.0), Some(20.0 / 60.0)), "time without a worker is no work");
        assert_eq!(note(220, 580, 1), (Some(100.0), Some(1.0)));
        pace.note(start + Duration::from_secs(221), []);
        assert_eq!((pace.seconds(&id, 100), pace.rate(&id)), (None, None), "it has ended");
    }

    #[test]
    fn a_merge_that_lost_parts_begins_anew() {
        let id = MergeId::parse("00112233aabbccdd").unwrap();
        let start = Instant::now();
        let mut pace = Pace::default();
        for (seconds, done) in [(0, 0), (10, 100), (20, 40), (30, 50)] {
            pace.note(start + Duration::from_secs(seconds), [(id.clone(), progress(done, 1))]);
        }
        assert_eq!(pace.seconds(&id, 100), Some(100.0));
    }
}
