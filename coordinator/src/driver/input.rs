//! What a driver is told.

use shardfuse_merge::Result;
use shardfuse_merge::plan::grid::Layers;
use shardfuse_proto::v1::from_worker;
use tokio::sync::{mpsc, oneshot};

use crate::outbound::ToWorker;
use crate::persist::Persisted;
use crate::schedule::{Effort, Epoch, TaskId, WorkerId};

/// What the driver is told.
#[derive(Debug)]
pub enum Input {
    /// A worker of the merge's class opened a session.
    Joined {
        /// The worker.
        worker: WorkerId,
        /// What people call it.
        name: String,
        /// The session's number.
        session: u64,
        /// Tasks of this merge that it takes at a time.
        slots: u32,
        /// Where its messages go.
        outbound: mpsc::Sender<ToWorker>,
    },
    /// The worker's slots were shared out anew.
    Slots {
        /// The worker.
        worker: WorkerId,
        /// Tasks of this merge that it takes at a time from now on.
        slots: u32,
    },
    /// A worker lives, and runs these attempts of this merge.
    Beat {
        /// The worker.
        worker: WorkerId,
        /// Its attempts, and how far they are.
        running: Vec<(TaskId, Epoch, Effort)>,
    },
    /// A worker said something about this merge, or that it drains.
    Said {
        /// The worker.
        worker: WorkerId,
        /// What.
        message: from_worker::Message,
    },
    /// A worker is gone.
    Left {
        /// The worker.
        worker: WorkerId,
    },
    /// Pieces are journaled.
    Persisted(Persisted),
    /// Whether a file's upload, which a put missed, is there after all.
    Looked(u32, Result<bool>),
    /// Somebody wants to see the layer set.
    Layers(oneshot::Sender<Option<Layers>>),
    /// Stop, and keep what is there.
    Cancel,
}

impl Input {
    /// The worker that it is about.
    pub(super) fn worker(&self) -> Option<WorkerId> {
        match self {
            Input::Joined { worker, .. }
            | Input::Slots { worker, .. }
            | Input::Beat { worker, .. }
            | Input::Said { worker, .. }
            | Input::Left { worker } => Some(*worker),
            Input::Persisted(_) | Input::Looked(..) | Input::Layers(_) | Input::Cancel => None,
        }
    }
}
