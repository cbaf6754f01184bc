//! How fast bytes are done, and what that says of the end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a rate is taken over. Workers report every few seconds, so a shorter time would show nothing, or all of it at once.
const WINDOW: Duration = Duration::from_secs(30);
/// A rate over less time says nothing.
const LEAST: Duration = Duration::from_secs(1);

/// A count over the last seconds. What was counted before the first look, such as parts of an earlier run, is in no rate.
#[derive(Debug, Default)]
pub struct Pace(VecDeque<(Instant, u64)>);

impl Pace {
    /// Notes a count.
    pub fn note(&mut self, now: Instant, count: u64) {
        if self.0.back().is_some_and(|(_, last)| count < *last) {
            // It began anew.
            self.0.clear();
        }
        self.0.push_back((now, count));
        // The last one before the window is kept, as its beginning.
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
    }

    /// Bytes a second until `now`; none where there is too little to tell.
    pub fn rate(&self, now: Instant) -> Option<f64> {
        let ((from, first), (_, last)) = (self.0.front()?, self.0.back()?);
        let span = now.saturating_duration_since(*from);
        (span >= LEAST).then(|| (last - first) as f64 / span.as_secs_f64())
    }
}

/// A time in the two largest units, such as `1 h 5 min`.
pub fn time(seconds: f64) -> String {
    let seconds = seconds.round().clamp(0.0, 1e9) as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(counts: &[(u64, u64)]) -> Option<f64> {
        let (begin, mut pace) = (Instant::now(), Pace::default());
        let at = |second: u64| begin + Duration::from_secs(second);
        counts.iter().for_each(|(second, count)| pace.note(at(*second), *count));
        pace.rate(at(counts.last().map_or(0, |(second, _)| *second)))
    }

    #[test]
    fn what_an_earlier_run_did_is_in_no_rate() {
        assert_eq!(rate(&[(0, 900), (10, 1000)]), Some(10.0));
    }

    #[test]
    fn only_the_last_half_minute_counts() {
        assert_eq!(rate(&[(0, 0), (10, 9_000), (50, 9_100), (90, 9_500)]), Some(10.0));
        assert_eq!(rate(&[(0, 0), (10, 100), (41, 100), (72, 100)]), Some(0.0), "nothing moves without workers");
    }

    #[test]
    fn a_count_that_begins_anew_is_no_rate_yet() {
        assert_eq!(rate(&[(0, 0), (10, 100), (11, 5)]), None);
        assert_eq!(rate(&[(0, 5)]), None);
    }

    #[test]
    fn times_have_two_units() {
        for (seconds, text) in [(9.4, "9 s"), (65.0, "1 min 5 s"), (3900.0, "1 h 5 min"), (90_000.0, "1 d 1 h")] {
            assert_eq!(time(seconds), text);
        }
    }
}
