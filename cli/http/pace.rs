//! How fast merges go, from what was done of each over the last minute.
//!
//! Not since a merge was submitted: it may have waited in a queue, and one that is gone on with begins with what was kept.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use shardfuse_coordinator::registry::MergeId;

/// How long a sample counts.
const WINDOW: Duration = Duration::from_secs(60);

/// Bytes that were done of each active merge, and when.
#[derive(Debug, Default)]
pub struct Pace(BTreeMap<MergeId, VecDeque<(Instant, u64)>>);

impl Pace {
    /// Takes what is done of every active merge. Others are forgotten.
    pub fn note(&mut self, now: Instant, active: impl IntoIterator<Item = (MergeId, u64)>) {
        let mut before = std::mem::take(&mut self.0);
        for (id, done) in active {
            let mut samples = before.remove(&id).unwrap_or_default();
            samples.push_back((now, done));
            while samples.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW) {
                samples.pop_front();
            }
            self.0.insert(id, samples);
        }
    }

    /// Seconds until `left` more bytes are done; none while nothing moves.
    pub fn seconds(&self, id: &MergeId, left: u64) -> Option<f64> {
        let samples = self.0.get(id)?;
        let ((first, before), (last, done)) = (samples.front()?, samples.back()?);
        let moved = done.saturating_sub(*before);
        let took = last.saturating_duration_since(*first).as_secs_f64();
        (moved > 0 && took > 0.0).then(|| took * left as f64 / moved as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_by_the_last_minute() {
        let id = MergeId::parse("00112233aabbccdd").unwrap();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::default();
        assert_eq!(pace.seconds(&id, 100), None, "it was never seen");
        // 500 of them were kept from an earlier run.
        pace.note(at(0), [(id.clone(), 500)]);
        assert_eq!(pace.seconds(&id, 100), None, "one look is no rate");
        pace.note(at(10), [(id.clone(), 500)]);
        assert_eq!(pace.seconds(&id, 100), None, "nothing moves");
        pace.note(at(20), [(id.clone(), 520)]);
        assert_eq!(pace.seconds(&id, 100), Some(100.0));
        // The slow beginning is more than a minute ago.
        pace.note(at(75), [(id.clone(), 600)]);
        pace.note(at(80), [(id.clone(), 620)]);
        assert_eq!(pace.seconds(&id, 100), Some(60.0));
        pace.note(at(90), []);
        assert_eq!(pace.seconds(&id, 100), None, "it has ended");
    }
}
