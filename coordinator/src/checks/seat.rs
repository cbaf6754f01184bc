//! The workers and the checks, as the machine keeps them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::part::{CheckId, Digest, Part};
use crate::schedule::{Epoch, WorkerId};

#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) slots: u32,
    pub(super) here: bool,
    pub(super) draining: bool,
    pub(super) barred: bool,
    pub(super) seen: Duration,
    pub(super) running: BTreeSet<CheckId>,
}

impl Seat {
    pub(super) fn may_work(&self) -> bool {
        self.here && !self.draining && !self.barred
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    pub(super) worker: WorkerId,
    pub(super) epoch: Epoch,
    pub(super) began: Duration,
    pub(super) deadline: Duration,
}

#[derive(Debug, Clone)]
pub(super) struct Check {
    pub(super) part: Part,
    /// The journal's digest first, then those of the workers that checked.
    pub(super) votes: Vec<(Option<WorkerId>, Digest)>,
    /// The workers that gave it up, or took too long.
    pub(super) gave_up: BTreeSet<WorkerId>,
    pub(super) live: Option<Live>,
    pub(super) tries: u32,
    pub(super) failures: u32,
    /// When it may be tried again.
    pub(super) not_before: Duration,
    pub(super) last_failure: String,
    pub(super) agreed: bool,
}

impl Check {
    pub(super) fn new(part: Part) -> Self {
        Self {
            part,
            votes: vec![(part.maker, part.digest)],
            gave_up: BTreeSet::new(),
            live: None,
            tries: 0,
            failures: 0,
            not_before: Duration::ZERO,
            last_failure: String::new(),
            agreed: false,
        }
    }

    pub(super) fn may(&self, worker: WorkerId) -> bool {
        !self.gave_up.contains(&worker) && self.votes.iter().all(|(voter, _)| *voter != Some(worker))
    }

    pub(super) fn failed(&mut self, worker: WorkerId, message: String) {
        self.failures += 1;
        self.last_failure = message;
        self.gave_up.insert(worker);
    }
}
