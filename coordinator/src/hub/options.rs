//! How a hub works.

use std::time::Duration;

use shardfuse_store::Allow;

use crate::device::Device;
use crate::owner::Owning;
use crate::schedule::Limits;

/// How a hub works.
#[derive(Debug, Clone)]
pub struct Options {
    /// What a merge gets that asks for no device.
    pub device: Device,
    /// Merges that are planned and run at a time; others are queued.
    pub max_active: usize,
    /// Merges that may wait for their turn.
    pub max_queued: usize,
    /// Ended merges that are remembered.
    pub max_ended: usize,
    /// How often a worker is to send a heartbeat.
    pub heartbeat: Duration,
    /// Limits of each merge's schedule.
    pub limits: Limits,
    /// The share of the parts that other workers compute again before publication, of a merge that gives no share.
    pub verify_parts: f64,
    /// The hub serves one merge of this process, and no worker joins from elsewhere: the merge ends when its workers cannot
    /// continue.
    pub alone: bool,
    /// How many workers will join, if that is known. One worker cannot verify parts, so the hub then refuses `verify_parts`.
    pub workers: Option<u32>,
    /// How long a merge may continue after all its workers were quarantined for the same failure, and how long a part waits for
    /// a worker that may compute it again.
    pub no_worker_timeout: Duration,
    /// How often a running merge checks that no other coordinator has taken it over.
    pub watch_every: Duration,
    /// How long a stop waits for what runs to be journaled.
    pub grace: Duration,
    /// Where merges may read and write.
    pub allow: Allow,
    /// What it does about another coordinator that works on an output of its merges.
    pub owning: Owning,
    /// No other coordinator works on the same outputs: they may lie in stores that cannot decide between two.
    pub single_coordinator: bool,
    /// The version of the program, for the manifests of its merges.
    pub version: &'static str,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            device: Device::Cpu,
            max_active: 8,
            max_queued: 1_000,
            max_ended: 1_000,
            heartbeat: Duration::from_secs(5),
            limits: Limits::default(),
            verify_parts: 0.0,
            alone: false,
            workers: None,
            no_worker_timeout: Duration::from_secs(60),
            watch_every: Duration::from_secs(10),
            grace: Duration::from_secs(20),
            allow: Allow::everything(),
            owning: Owning::Off,
            single_coordinator: false,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}
