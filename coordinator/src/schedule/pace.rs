//! How long the work takes that is typical.

use std::collections::VecDeque;
use std::time::Duration;

/// How many finished attempts the typical pace is taken from: enough for a median, few enough to follow a change.
const WINDOW: usize = 32;

/// How long a piece took lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    recent: VecDeque<Duration>,
}

impl Pace {
    /// Notes an attempt that did `pieces` in `took`. By the piece, because a retry gets only what is missing.
    pub(super) fn note(&mut self, took: Duration, pieces: u32) {
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(took / pieces.max(1));
    }

    /// The median; none before the first attempt has finished.
    pub(super) fn typical(&self) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}
