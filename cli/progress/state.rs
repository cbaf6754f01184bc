//! What is known of a merge that is shown.

use shardfuse_coordinator::Progress;

/// A merge as it stands, and who works on it where that is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// How far it is.
    pub progress: Progress,
    /// The workers of its coordinator. Empty for a merge of this process.
    pub workers: Vec<Worker>,
}

/// A worker of a coordinator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worker {
    /// Its number, which no two workers share.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether it is connected.
    pub present: bool,
    /// Tasks that it works on.
    pub running: u32,
    /// Bytes of parts that it has put since it started.
    pub bytes: u64,
}

impl From<Progress> for State {
    fn from(progress: Progress) -> Self {
        State { progress, workers: Vec::new() }
    }
}
