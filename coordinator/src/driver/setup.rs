//! How a merge is driven, what its driver tells on the way, and how it went.

use std::time::Duration;

use shardfuse_merge::DeviceClass;
use shardfuse_merge::output::manifest::Manifest;

use crate::schedule::{Limits, WorkerId};

/// What the driver tells the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A worker gets nothing more of this merge.
    Quarantined {
        /// The worker.
        worker: WorkerId,
    },
    /// A session takes no more messages.
    Cut {
        /// The worker.
        worker: WorkerId,
        /// The session.
        session: u64,
    },
    /// Something that people who look at the merge should see.
    Happened {
        /// The worker that it is about.
        worker: Option<WorkerId>,
        /// Whether it should not happen.
        fault: bool,
        /// What.
        text: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Every part is journaled; from here on nothing is taken any more.
    Publishing,
}

/// How a merge is driven.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Names the merge in attempts: workers hand it back with all that they say.
    pub label: String,
    /// The class of its workers.
    pub device_class: DeviceClass,
    /// Limits of the schedule.
    pub limits: Limits,
    /// The share of the parts that other workers compute again before publication, from 0 to 1.
    pub verify_parts: f64,
    /// Publish also a merge in which an adapter changes nothing.
    pub allow_no_change: bool,
    /// No worker joins from elsewhere: the merge ends when the workers of this process cannot continue.
    pub alone: bool,
    /// How long a merge may continue after all its workers were quarantined for the same failure, and how long a part waits for a
    /// worker that may compute it again.
    pub no_worker_timeout: Duration,
    /// How often it is checked that no other coordinator has taken the merge over.
    pub watch_every: Duration,
    /// The version of the program, for the manifest.
    pub version: &'static str,
}

/// How a merge went.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The published manifest.
    pub manifest: Manifest,
    /// Parts that this run put.
    pub parts_new: u64,
    /// Parts that an earlier run had put.
    pub parts_kept: u64,
    /// Attempts that had to be made again.
    pub retries: u64,
}
