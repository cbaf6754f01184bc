//! A second attempt at what is slow, once nothing else is left to give out.

use super::action::Action;
use super::machine::Schedule;

impl Schedule {
    /// Gives slots that would stay free to repeats of the slowest attempts, the oldest first. Looked at on a tick only: it
    /// goes through all that runs.
    pub(super) fn speculate(&mut self, out: &mut Vec<Action>) {
        if !self.ready.is_empty() || self.workers.nobody_is_free() {
            return;
        }
        let Some(typical) = self.pace.typical() else {
            return;
        };
        let slow = typical.saturating_mul(self.limits.slow_factor);
        let mut candidates = Vec::new();
        for &id in &self.running {
            let task = &self.tasks[id.0 as usize];
            let mut attempts = task.attempts();
            // The last attempt that the cap allows is kept for when this one fails; and a task whose failures are used up
            // lives only as long as what still runs.
            if let (Some(only), None) = (attempts.next(), attempts.next())
                && self.now.saturating_sub(only.started) > slow.saturating_mul(only.given)
                && task.failures < self.limits.max_attempts
                && task.begun + 1 < self.limits.attempt_cap
            {
                candidates.push((only.started, id, only.worker));
            }
        }
        candidates.sort_unstable();
        for (_, task, slow) in candidates {
            let helper = self.workers.free().find(|&worker| worker != slow);
            if let Some(helper) = helper {
                self.assign(helper, task, out);
            }
        }
    }
}
