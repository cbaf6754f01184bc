//! What ended attempts, and how often they are made again for it.

use super::event::ErrorKind;
use super::id::WorkerId;

/// What ended an attempt.
#[derive(Debug)]
pub(super) enum End {
    /// Its worker gave it up.
    Failed { kind: ErrorKind, message: String },
    /// Its lease ran out while its worker was there.
    Expired,
    /// Its worker was not heard of for a lease.
    Lost,
    /// Its worker left.
    Left,
    /// It showed no progress while other workers did.
    Stalled,
}

impl End {
    /// Whether it is held against the task.
    pub(super) fn counts(&self) -> bool {
        match self {
            Self::Failed { kind, .. } => match kind {
                ErrorKind::Transient | ErrorKind::Permanent => true,
                ErrorKind::WorkerLocal | ErrorKind::Stale => false,
            },
            Self::Expired | Self::Lost => true,
            Self::Left | Self::Stalled => false,
        }
    }

    pub(super) fn message(&self, worker: WorkerId) -> String {
        match self {
            Self::Failed { message, .. } => message.clone(),
            Self::Expired => format!("worker {worker} let the lease run out"),
            Self::Lost => format!("worker {worker} was lost"),
            Self::Left => format!("worker {worker} left"),
            Self::Stalled => format!("worker {worker} made no progress"),
        }
    }
}

/// What ended the attempt before one that is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Transient,
    WorkerLocal,
    Stale,
    LeaseExpired,
    WorkerLost,
    WorkerLeft,
    Stalled,
}

impl Cause {
    pub(super) fn of(end: &End) -> Cause {
        match end {
            End::Failed { kind: ErrorKind::WorkerLocal, .. } => Cause::WorkerLocal,
            End::Failed { kind: ErrorKind::Stale, .. } => Cause::Stale,
            // A permanent failure ends the merge: nothing is made again after it.
            End::Failed { kind: ErrorKind::Transient | ErrorKind::Permanent, .. } => Cause::Transient,
            End::Expired => Cause::LeaseExpired,
            End::Lost => Cause::WorkerLost,
            End::Left => Cause::WorkerLeft,
            End::Stalled => Cause::Stalled,
        }
    }
}

/// Attempts that were made again, by what ended the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retries([u64; 7]);

impl Retries {
    /// The names, as metrics show them.
    pub const KINDS: [&'static str; 7] =
        ["transient", "worker_local", "stale", "lease_expired", "worker_lost", "worker_left", "stalled"];

    pub(super) fn note(&mut self, cause: Cause) {
        self.0[cause as usize] += 1;
    }

    /// Each kind and how often, in the order of [`Self::KINDS`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        Self::KINDS.into_iter().zip(self.0)
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
