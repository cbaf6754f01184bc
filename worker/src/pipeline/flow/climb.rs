//! How many transfers at a time are worth it, found from the rate alone.
//!
//! From time to time one more step is tried, in turn upwards and downwards. Up stays only if the rate grows by it; down
//! stays unless the rate falls by it. So the number is about the smallest that fills the network, whatever the store.

/// The fewest: while one request begins or ends, another one moves bytes.
pub const LEAST: usize = 2;
/// The most.
const MOST: usize = 256;
/// What is gained by a step up at the least, so that it stays.
const GAIN: f64 = 1.1;
/// What is left after a step down at the least, so that it stays.
const LEFT: f64 = 0.97;
/// Measurements between two tries.
const REST: u32 = 8;

/// The number and how it is being changed.
#[derive(Debug)]
pub struct Climb {
    limit: usize,
    phase: Phase,
    /// The direction of the next try.
    up: bool,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// So many measurements until the next try.
    Rest(u32),
    /// A step is tried; this was the limit, and that the rate.
    Try(usize, f64),
}

impl Climb {
    /// Begins with the fewest, and with a try upwards.
    pub fn new() -> Self {
        Climb { limit: LEAST, phase: Phase::Rest(0), up: true }
    }

    /// Transfers at a time.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// So many bytes a second were moved with this limit, which held somebody back.
    pub fn measured(&mut self, rate: f64) {
        match self.phase {
            Phase::Rest(0) => self.step(rate),
            Phase::Rest(left) => self.phase = Phase::Rest(left - 1),
            Phase::Try(_, before) if self.up && rate > GAIN * before => self.step(rate),
            Phase::Try(_, before) if !self.up && rate > LEFT * before => self.rest(),
            Phase::Try(limit, _) => {
                self.limit = limit;
                self.rest();
            }
        }
    }

    fn step(&mut self, rate: f64) {
        self.phase = Phase::Try(self.limit, rate);
        self.limit = if self.up { self.limit + (self.limit / 2).max(1) } else { self.limit - self.limit / 4 };
        self.limit = self.limit.clamp(LEAST, MOST);
    }

    fn rest(&mut self) {
        self.up = !self.up;
        self.phase = Phase::Rest(REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit after so many measurements of a network: its rate, and that of one connection.
    fn found(windows: usize, network: f64, connection: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut climb = Climb::new();
        (0..windows)
            .map(|_| {
                climb.measured((climb.limit() as f64 * connection(climb.limit())).min(network));
                climb.limit()
            })
            .collect()
    }

    #[test]
    fn a_slow_link_takes_the_fewest() {
        let limits = found(200, 10.0, |_| 90.0);
        assert!(limits.iter().all(|limit| *limit <= LEAST + 1), "{limits:?}");
    }

    #[test]
    fn a_fast_network_of_slow_connections_is_filled_in_a_few_steps() {
        let limits = found(200, 3000.0, |_| 90.0);
        let least = limits[10..].iter().min().unwrap();
        assert!(*least as f64 * 90.0 > 0.9 * 3000.0, "{limits:?}");
        assert!(*limits.iter().max().unwrap() <= 80, "{limits:?}");
    }

    #[test]
    fn a_network_that_became_slower_takes_fewer_again() {
        let mut climb = Climb::new();
        for _ in 0..50 {
            climb.measured((climb.limit() as f64 * 90.0).min(3000.0));
        }
        for _ in 0..400 {
            climb.measured((climb.limit() as f64 * 90.0).min(200.0));
        }
        assert!(climb.limit() <= 6, "{}", climb.limit());
    }

    #[test]
    fn there_are_never_more_than_the_most() {
        let limits = found(100, f64::INFINITY, |_| 1.0);
        assert_eq!(limits.iter().max(), Some(&MOST));
    }
}
