//! A task, its attempts and its pieces.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cause::Cause;
use super::effort::Effort;
use super::id::{Epoch, Piece, Reporter, TaskId, WorkerId};
use super::pieces::{PieceState, Pieces};
use super::receipt::Receipt;

/// A task as the plan states it. Its id is its place in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// The pieces of its work, each reported by itself: a run of part numbers of one output file, or block numbers.
    pub pieces: Vec<Piece>,
    /// Tasks that must be done before it starts.
    pub after: Vec<TaskId>,
    /// Tasks of equal key share what a worker keeps in memory (an adapter's factors), and prefer the same worker.
    pub affinity: u64,
    /// Its size in bytes, for the progress.
    pub bytes: u64,
}

/// A live attempt.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) worker: WorkerId,
    pub(super) epoch: Epoch,
    pub(super) started: Duration,
    pub(super) deadline: Duration,
    /// How many pieces it was given.
    pub(super) given: u32,
    /// Those of them that it has not reported yet.
    pub(super) open: BTreeSet<Piece>,
    /// The most that it has shown so far.
    pub(super) effort: Effort,
    /// How long that has stood still while others could show that work is possible.
    pub(super) still: Duration,
}

#[derive(Debug, Clone)]
pub(super) enum TaskState {
    /// No live attempt: blocked by its `after`, in backoff, or ready.
    Waiting,
    Running {
        first: Attempt,
        repeat: Option<Attempt>,
    },
    /// Every piece is accepted. `closer` is the attempt that reported all it was given: its worker may send reports again
    /// that were not acknowledged, and is answered rather than revoked.
    Settling {
        closer: Option<Reporter>,
    },
    /// Every piece is persisted.
    Done {
        closer: Option<Reporter>,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) affinity: u64,
    pub(super) bytes: u64,
    /// Tasks that have this one in their `after`.
    pub(super) dependents: Vec<TaskId>,
    /// How many tasks in its own `after` are not done.
    pub(super) blockers: u32,
    pub(super) state: TaskState,
    pub(super) pieces: Pieces,
    /// How many pieces have a receipt.
    pub(super) accepted: u32,
    /// How many pieces are persisted.
    pub(super) persisted: u32,
    /// How many attempts were begun.
    pub(super) begun: u32,
    /// How many of them ended by a transient error or a lost lease.
    pub(super) failures: u32,
    /// What ended the last of those.
    pub(super) last_failure: String,
    /// What ended the last attempt that left it unfinished.
    pub(super) ended_by: Option<Cause>,
}

impl Task {
    pub(super) fn missing(&self) -> impl Iterator<Item = Piece> {
        self.pieces.iter().filter(|(_, state)| matches!(state, PieceState::Missing)).map(|(piece, _)| piece)
    }

    pub(super) fn receipts(&self) -> impl Iterator<Item = (Piece, &Receipt)> {
        self.pieces.iter().filter_map(|(piece, state)| match state {
            PieceState::Missing => None,
            PieceState::Accepted { receipt, .. } | PieceState::Persisted { receipt } => Some((piece, receipt)),
        })
    }

    /// Its size in bytes, as far as its pieces are persisted.
    pub(super) fn bytes_done(&self) -> u64 {
        let done = u128::from(self.bytes) * u128::from(self.persisted) / (self.pieces.len().max(1) as u128);
        u64::try_from(done).unwrap_or(self.bytes)
    }

    pub(super) fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        let (first, repeat) = match &self.state {
            TaskState::Running { first, repeat } => (Some(first), repeat.as_ref()),
            TaskState::Waiting | TaskState::Settling { .. } | TaskState::Done { .. } => (None, None),
        };
        first.into_iter().chain(repeat)
    }

    pub(super) fn attempts_mut(&mut self) -> impl Iterator<Item = &mut Attempt> {
        let (first, repeat) = match &mut self.state {
            TaskState::Running { first, repeat } => (Some(first), repeat.as_mut()),
            TaskState::Waiting | TaskState::Settling { .. } | TaskState::Done { .. } => (None, None),
        };
        first.into_iter().chain(repeat)
    }

    pub(super) fn attempt_mut(&mut self, (worker, epoch): Reporter) -> Option<&mut Attempt> {
        self.attempts_mut().find(|attempt| (attempt.worker, attempt.epoch) == (worker, epoch))
    }

    /// Whether `reporter` is the attempt that finished the task.
    pub(super) fn is_closed_by(&self, reporter: Reporter) -> bool {
        match self.state {
            TaskState::Settling { closer } | TaskState::Done { closer } => closer == Some(reporter),
            TaskState::Waiting | TaskState::Running { .. } => false,
        }
    }

    /// Adds a live attempt. A third one, or one at a finished task, is refused and handed back.
    pub(super) fn begin(&mut self, attempt: Attempt) -> Result<(), Attempt> {
        match &mut self.state {
            TaskState::Waiting => self.state = TaskState::Running { first: attempt, repeat: None },
            TaskState::Running { repeat: repeat @ None, .. } => *repeat = Some(attempt),
            TaskState::Running { repeat: Some(_), .. } | TaskState::Settling { .. } | TaskState::Done { .. } => {
                return Err(attempt);
            }
        }
        self.begun += 1;
        Ok(())
    }

    /// Takes out the live attempt `epoch`; the task waits when it was the only one.
    pub(super) fn end(&mut self, epoch: Epoch) -> Option<Attempt> {
        match std::mem::replace(&mut self.state, TaskState::Waiting) {
            TaskState::Running { first, repeat } => {
                let is_it = |attempt: &Attempt| attempt.epoch == epoch;
                let (ended, live): (Vec<_>, Vec<_>) = std::iter::once(first).chain(repeat).partition(is_it);
                let mut live = live.into_iter();
                if let Some(first) = live.next() {
                    self.state = TaskState::Running { first, repeat: live.next() };
                }
                ended.into_iter().next()
            }
            other => {
                self.state = other;
                None
            }
        }
    }
}
