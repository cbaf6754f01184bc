//! An attempt at a task, by which everything in a session goes.

use std::fmt;

use shardfuse_proto::v1;

/// An attempt at a task of a merge.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt {
    /// The merge; opaque here.
    pub merge: String,
    /// The task.
    pub task: u32,
    /// The number of the attempt.
    pub epoch: u32,
}

impl From<v1::Attempt> for Attempt {
    fn from(a: v1::Attempt) -> Self {
        Attempt { merge: a.merge, task: a.task, epoch: a.epoch }
    }
}

impl From<&Attempt> for v1::Attempt {
    fn from(a: &Attempt) -> Self {
        v1::Attempt { task: a.task, epoch: a.epoch, merge: a.merge.clone() }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempt {} at task {}", self.epoch, self.task)
    }
}
