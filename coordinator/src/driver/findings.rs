//! What a driver notes until it can act on it.

use shardfuse_merge::Error;

use crate::schedule::{Epoch, TaskId, WorkerId};

/// A put that met no upload.
#[derive(Debug)]
pub(super) struct Missed {
    /// The worker that put it.
    pub(super) worker: WorkerId,
    /// The task.
    pub(super) task: TaskId,
    /// The attempt.
    pub(super) epoch: Epoch,
    /// What the worker said.
    pub(super) error: Error,
}

/// Parts that are to be made again, and who was odd.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) pieces: Vec<(u32, u32)>,
    pub(super) odd: Vec<u64>,
}
