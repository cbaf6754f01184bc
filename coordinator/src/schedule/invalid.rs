//! What does not make a schedule.

use std::fmt;

use super::id::{Epoch, Piece, TaskId};

/// Why there is no schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidSchedule {
    /// More tasks than ids.
    TooManyTasks {
        /// How many.
        tasks: usize,
    },
    /// A task without pieces would never finish.
    NoPieces {
        /// Which.
        task: TaskId,
    },
    /// A task lists a piece twice.
    DuplicatePiece {
        /// Which task.
        task: TaskId,
        /// Which piece.
        piece: Piece,
    },
    /// A task depends on an unknown task.
    UnknownAfter {
        /// Which.
        task: TaskId,
        /// What it names.
        after: TaskId,
    },
    /// A task depends on itself, directly or through others.
    Cycle {
        /// One task that can never start.
        task: TaskId,
    },
    /// A receipt for a task or piece that there is not.
    UnknownReceipt {
        /// Of which task.
        task: TaskId,
        /// Which piece.
        piece: Piece,
    },
    /// Two different receipts for one piece: which one stands is for the journal to say.
    ConflictingReceipts {
        /// Of which task.
        task: TaskId,
        /// Which piece.
        piece: Piece,
    },
    /// A limit that allows nothing.
    ZeroLimit {
        /// Its name.
        name: &'static str,
    },
    /// The attempts that the limits allow would not fit above the first epoch.
    EpochOverflow {
        /// The first epoch.
        first: Epoch,
        /// How many attempts at a task are allowed.
        attempt_cap: u32,
    },
}

impl fmt::Display for InvalidSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyTasks { tasks } => write!(f, "{tasks} tasks are more than {}", u32::MAX),
            Self::NoPieces { task } => write!(f, "task {task} has no pieces"),
            Self::DuplicatePiece { task, piece } => {
                write!(f, "task {task} lists piece {piece} twice")
            }
            Self::UnknownAfter { task, after } => {
                write!(f, "task {task} comes after task {after}, which does not exist")
            }
            Self::Cycle { task } => write!(f, "task {task} waits for itself"),
            Self::UnknownReceipt { task, piece } => {
                write!(f, "there is a receipt for piece {piece} of task {task}, which does not exist")
            }
            Self::ConflictingReceipts { task, piece } => {
                write!(f, "there are two different receipts for piece {piece} of task {task}")
            }
            Self::ZeroLimit { name } => write!(f, "limit {name} is zero"),
            Self::EpochOverflow { first, attempt_cap } => {
                write!(f, "{attempt_cap} attempts from epoch {first} on go beyond {}", u32::MAX)
            }
        }
    }
}

impl std::error::Error for InvalidSchedule {}
