//! A part that is computed again, and the number of its check.

use crate::schedule::{Piece, TaskId, WorkerId};

/// Numbers a check, from 0 in the order of tasks and pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub u32);

/// BLAKE3 of a part, as its receipt has it.
pub type Digest = [u8; 32];

/// A journaled part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its task.
    pub task: TaskId,
    /// Its number.
    pub piece: Piece,
    /// The worker that made it, if that was journaled.
    pub maker: Option<WorkerId>,
    /// What its receipt says.
    pub digest: Digest,
}
