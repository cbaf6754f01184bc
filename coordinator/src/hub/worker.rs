//! A worker as the hub holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shardfuse_merge::DeviceClass;
use shardfuse_proto::v1::{self, to_worker};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::enrol::Registration;
use super::view::WorkerView;
use crate::outbound::ToWorker;
use crate::schedule::WorkerId;

/// A worker as the hub holds it.
pub(super) struct KnownWorker {
    pub(super) name: String,
    pub(super) class: DeviceClass,
    pub(super) slots: u32,
    /// When its number was registered.
    pub(super) registration: Registration,
    pub(super) memory: u64,
    pub(super) session: Option<Open>,
    pub(super) draining: bool,
    /// When it was last heard of.
    pub(super) heard: Instant,
    pub(super) running: u32,
    /// Whether there was a heartbeat in its session.
    pub(super) told: bool,
    pub(super) bytes_put: u64,
    pub(super) bytes_read: u64,
    pub(super) memory_used: u64,
    pub(super) stages: v1::Stages,
}

/// An open session. Dropping it closes it.
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) outbound: mpsc::Sender<ToWorker>,
    pub(super) _open: watch::Sender<()>,
}

/// Why a session is closed before its worker ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// The connection is gone.
    Broken,
    /// The worker does not read what it is sent.
    Unread,
    /// More of its reports wait for a driver than may.
    Overrun,
}

impl Closing {
    /// What it is, and what to do about it.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Closing::Broken => (
                "its connection broke; its tasks wait for it until their leases end",
                "look whether its process runs, and at its log",
            ),
            Closing::Unread => (
                "it does not read what it is sent; its connection is closed",
                "look whether its process hangs, and at its machine",
            ),
            Closing::Overrun => (
                "it reports more than a merge can take in; its connection is closed",
                "look at the coordinator's processor and at its journal's store",
            ),
        }
    }
}

impl KnownWorker {
    /// Whether it can take tasks.
    pub(super) fn is_able(&self, now: Instant, lease: Duration) -> bool {
        self.is_present(now, lease) && !self.draining
    }

    fn is_present(&self, now: Instant, lease: Duration) -> bool {
        self.session.is_some() && now.saturating_duration_since(self.heard) < lease
    }

    pub(super) fn view(&self, id: WorkerId, now: Instant, lease: Duration) -> WorkerView {
        WorkerView {
            id,
            name: self.name.clone(),
            device_class: self.class.clone(),
            slots: self.slots,
            memory: self.memory,
            present: self.is_present(now, lease),
            draining: self.draining,
            running: self.running,
            told: self.told,
            bytes_put: self.bytes_put,
            bytes_read: self.bytes_read,
            memory_used: self.memory_used,
            stages: self.stages,
            silent: now.saturating_duration_since(self.heard),
        }
    }

    /// Tells it without waiting. If a worker does not read, the message is dropped: the worker will ask again.
    pub(super) fn tell(&self, message: to_worker::Message) {
        if let Some(open) = &self.session {
            let _ = open.outbound.try_send(ToWorker::Message(message));
        }
    }
}

/// The device classes that have a worker that could take a task now.
pub(super) fn able_classes(
    workers: &BTreeMap<WorkerId, KnownWorker>,
    now: Instant,
    lease: Duration,
) -> BTreeSet<&DeviceClass> {
    workers.values().filter(|w| w.is_able(now, lease)).map(|w| &w.class).collect()
}
