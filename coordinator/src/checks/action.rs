//! What the checks want done, and how they end.

use std::collections::BTreeSet;

use super::part::{CheckId, Digest};
use crate::schedule::{Epoch, Piece, TaskId, WorkerId};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Have a part computed.
    Assign {
        /// By whom.
        worker: WorkerId,
        /// Which.
        check: CheckId,
        /// Under which number.
        epoch: Epoch,
    },
    /// Tell a worker to stop.
    Revoke {
        /// Whom.
        worker: WorkerId,
        /// Which.
        check: CheckId,
        /// Which attempt.
        epoch: Epoch,
    },
    /// Tell a worker that its report was taken.
    Ack {
        /// Whom.
        worker: WorkerId,
        /// Which.
        check: CheckId,
        /// Which attempt.
        epoch: Epoch,
    },
    /// A worker was alone with what it computed.
    Odd {
        /// Who.
        worker: WorkerId,
        /// On which part.
        check: CheckId,
    },
    /// It is over.
    End(Verdict),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every part that was chosen has the same digest from two workers, and nothing is lost.
    Sound {
        /// How many were chosen.
        checked: usize,
    },
    /// These are to be made again, not by those who were odd.
    Lost {
        /// By task and piece.
        parts: BTreeSet<(TaskId, Piece)>,
        /// The odd workers.
        odd: BTreeSet<WorkerId>,
    },
    /// It cannot be decided.
    Undecided {
        /// Which part.
        check: CheckId,
        /// The workers that computed it, and the digest of each; `None` if the journal names no worker.
        had: Vec<(Option<WorkerId>, Digest)>,
        /// Why.
        why: Undecidable,
    },
}

/// Why nobody can say which digest of a part is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undecidable {
    /// No two of three workers agree.
    Disagreement,
    /// No worker may compute it that has not computed it already.
    NoOtherWorker {
        /// How many workers of the class are connected.
        connected: usize,
        /// The last failure of a worker that tried, for people; empty if none failed.
        last_failure: String,
    },
    /// Computing it failed too often.
    Failures {
        /// How often.
        times: u32,
        /// The last failure, for people.
        last_failure: String,
    },
}
