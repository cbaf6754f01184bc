//! How long and how often.

use std::time::Duration;

use super::invalid::InvalidSchedule;

/// The limits of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long an attempt, and a worker, live without a sign.
    pub lease: Duration,
    /// How many attempts at one task may end by a transient error or a lost lease; the last of them ends the merge.
    pub max_attempts: u32,
    /// How many attempts at one task may be begun, however they end. It bounds what is counted against nobody: workers that
    /// leave, their own errors, and stale attempts.
    pub attempt_cap: u32,
    /// How many errors of its own quarantine a worker, if it finishes no task in between.
    pub worker_strikes: u32,
    /// How many times slower than the typical finished attempt one has to be until it is repeated elsewhere.
    pub slow_factor: u32,
    /// The backoff of a task after its first attempt failed. Doubles with each attempt, up to one lease. Without it an error
    /// that returns at once would use up all attempts before its cause could pass.
    pub retry_delay: Duration,
    /// For how many leases an attempt may show no progress while other workers do, before it goes to one of them.
    pub still_leases: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            max_attempts: 5,
            attempt_cap: 100,
            worker_strikes: 3,
            slow_factor: 3,
            retry_delay: Duration::from_secs(1),
            still_leases: 10,
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), InvalidSchedule> {
        let zero = [
            ("lease", self.lease.is_zero()),
            ("max_attempts", self.max_attempts == 0),
            ("attempt_cap", self.attempt_cap == 0),
            ("worker_strikes", self.worker_strikes == 0),
            ("slow_factor", self.slow_factor == 0),
            ("still_leases", self.still_leases == 0),
        ];
        match zero.into_iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => Err(InvalidSchedule::ZeroLimit { name }),
            None => Ok(()),
        }
    }

    /// How long an attempt may show no progress while other workers do.
    pub(super) fn stall_timeout(&self) -> Duration {
        self.lease.saturating_mul(self.still_leases)
    }

    /// The backoff of a task whose `begun`th attempt failed.
    pub(super) fn backoff(&self, begun: u32) -> Duration {
        let doublings = begun.saturating_sub(1).min(16);
        self.retry_delay.saturating_mul(1 << doublings).min(self.lease)
    }
}
