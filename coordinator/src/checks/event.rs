//! What happens to the checks.

use super::part::{CheckId, Digest};
use crate::schedule::{Epoch, WorkerId};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A worker is connected, and runs `slots` checks at a time.
    Joined {
        /// Who.
        worker: WorkerId,
        /// How many.
        slots: u32,
    },
    /// From now on it runs `slots` checks at a time.
    Slots {
        /// Who.
        worker: WorkerId,
        /// How many.
        slots: u32,
    },
    /// It gets nothing new.
    Draining {
        /// Who.
        worker: WorkerId,
    },
    /// It gets nothing more of this merge.
    Barred {
        /// Who.
        worker: WorkerId,
    },
    /// It is gone.
    Left {
        /// Who.
        worker: WorkerId,
    },
    /// It lives and runs these.
    Heartbeat {
        /// Who.
        worker: WorkerId,
        /// Which.
        running: Vec<(CheckId, Epoch)>,
    },
    /// It computed a part.
    Made {
        /// Who.
        worker: WorkerId,
        /// Which.
        check: CheckId,
        /// In which attempt.
        epoch: Epoch,
        /// What came out.
        digest: Digest,
    },
    /// It gave a check up.
    Failed {
        /// Who.
        worker: WorkerId,
        /// Which.
        check: CheckId,
        /// In which attempt.
        epoch: Epoch,
        /// Why, for people.
        message: String,
    },
    /// Time has passed.
    Tick,
}
