//! The laws about attempts at tasks, read from the events that coordinators tell.
//!
//! - A coordinator has at most two live attempts at a task, on two workers, under numbers that rise.
//! - It gives nobody a piece that it knows to be journaled.
//! - It accepts a piece once, and only from an attempt that lives and was given that piece: what a worker reports after its
//!   attempt failed, was revoked, or was lost with the worker counts for nothing.
//! - A worker that was lost has no live attempt: they were all revoked before anything else was assigned.
//! - After a failure nobody gets the task before its backoff is over, unless another attempt at it lives.
//! - After a permanent failure the merge assigns nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shardfuse_coordinator::schedule::Limits;

/// The simulated clock moves in steps, so a backoff may look shorter by some of them.
const CLOCK_STEPS: Duration = Duration::from_millis(20);

/// A task's piece.
pub type Piece = (u64, u64);

/// What one run of a merge by one coordinator does with attempts.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Live attempts by task and number.
    live: BTreeMap<u64, BTreeMap<u64, Live>>,
    /// The last attempt's number by task.
    last: BTreeMap<u64, u64>,
    accepted: BTreeSet<Piece>,
    /// Workers that were lost and got nothing since.
    lost: BTreeSet<u64>,
    /// Until when a task is not assigned after a failure.
    backoff: BTreeMap<u64, Duration>,
    /// The task that failed permanently.
    ended_by: Option<u64>,
}

#[derive(Debug)]
struct Live {
    worker: u64,
    /// All that it was given.
    pieces: BTreeSet<u64>,
    /// What of it nobody has finished.
    open: BTreeSet<u64>,
}

/// An attempt as events name it.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    pub worker: u64,
    pub task: u64,
    pub epoch: u64,
}

/// Whether a task was tried before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    First,
    /// An earlier attempt has ended.
    After,
    /// Another attempt lives.
    Beside,
}

impl Attempts {
    /// Whether a worker has live attempts.
    pub fn is_busy(&self, worker: u64) -> bool {
        self.live.values().flat_map(BTreeMap::values).any(|live| live.worker == worker)
    }

    /// The tasks with live attempts.
    pub fn tasks(&self) -> Vec<u64> {
        self.live.iter().filter(|(_, attempts)| !attempts.is_empty()).map(|(task, _)| *task).collect()
    }

    pub fn has_accepted(&self, piece: Piece) -> bool {
        self.accepted.contains(&piece)
    }

    /// A worker is given pieces of a task. `journaled` is what the coordinator knows to be journaled.
    pub fn assigned(
        &mut self,
        at: Duration,
        Attempt { worker, task, epoch }: Attempt,
        pieces: &[u64],
        journaled: &BTreeSet<Piece>,
        broken: &mut Vec<String>,
    ) -> Again {
        let again: Vec<u64> = pieces.iter().copied().filter(|piece| journaled.contains(&(task, *piece))).collect();
        if !again.is_empty() {
            broken.push(format!("pieces {again:?} of task {task} are journaled and given to {worker}"));
        }
        if let Some(failed) = self.ended_by {
            broken.push(format!("task {failed} failed permanently, and then {worker} got task {task}"));
        }
        self.lost.remove(&worker);
        for (task, epoch, lost) in self.of_lost() {
            broken.push(format!("worker {lost} was lost, and its attempt {epoch} at task {task} lives on"));
        }
        let last = self.last.insert(task, epoch);
        if last.is_some_and(|last| last >= epoch) {
            broken.push(format!("attempt {epoch} at task {task} comes after attempt {last:?}"));
        }
        let live = self.live.entry(task).or_default();
        let again = match (live.is_empty(), last) {
            (false, _) => Again::Beside,
            (true, Some(_)) => Again::After,
            (true, None) => Again::First,
        };
        if live.values().any(|other| other.worker == worker) || live.len() >= 2 {
            broken.push(format!("attempt {epoch} at task {task} on {worker} comes beside {live:?}"));
        }
        if let Some(until) = self.backoff.remove(&task)
            && at + CLOCK_STEPS < until
        {
            broken.push(format!("attempt {epoch} at task {task} comes {:?} before its backoff is over", until - at));
        }
        let pieces: BTreeSet<u64> = pieces.iter().copied().collect();
        live.insert(epoch, Live { worker, open: pieces.clone(), pieces });
        again
    }

    /// A worker's report of a piece counts.
    pub fn accepted(&mut self, Attempt { worker, task, epoch }: Attempt, piece: u64, broken: &mut Vec<String>) {
        let attempts = self.live.entry(task).or_default();
        match attempts.get(&epoch) {
            Some(live) if live.worker != worker => broken.push(format!(
                "piece {piece} of task {task} is accepted from worker {worker}, attempt {epoch} is {}'s",
                live.worker
            )),
            Some(live) if !live.pieces.contains(&piece) => broken.push(format!(
                "piece {piece} of task {task} is accepted from attempt {epoch}, which was given {:?}",
                live.pieces
            )),
            Some(_) => {}
            None => broken.push(format!(
                "piece {piece} of task {task} is accepted from attempt {epoch} of worker {worker}, which does not live"
            )),
        }
        attempts.values_mut().for_each(|live| _ = live.open.remove(&piece));
        if !self.accepted.insert((task, piece)) {
            broken.push(format!("piece {piece} of task {task} is accepted a second time"));
        }
    }

    pub fn revoked(&mut self, Attempt { task, epoch, .. }: Attempt) {
        self.live.entry(task).or_default().remove(&epoch);
    }

    /// A worker reports that its attempt failed. Returns whether it lived: if not, the report counts for nothing.
    pub fn failed(&mut self, at: Duration, Attempt { worker, task, epoch }: Attempt, kind: &str) -> bool {
        let attempts = self.live.entry(task).or_default();
        if attempts.get(&epoch).is_none_or(|live| live.worker != worker) {
            return false;
        }
        match kind {
            "Permanent" => self.ended_by = Some(task),
            // The coordinator may look for the upload first, and the attempt lives until then.
            "Stale" => {}
            _ if attempts.len() == 1 => _ = self.backoff.insert(task, at + Limits::default().retry_delay),
            _ => {}
        }
        attempts.remove(&epoch);
        true
    }

    pub fn done(&mut self, task: u64) {
        self.live.remove(&task);
    }

    pub fn left(&mut self, worker: u64) {
        self.lost.remove(&worker);
        self.live.values_mut().for_each(|attempts| attempts.retain(|_, live| live.worker != worker));
    }

    pub fn lost(&mut self, worker: u64) {
        self.lost.insert(worker);
    }

    /// Attempts of lost workers that live and have something to do: task, number and worker.
    fn of_lost(&self) -> Vec<(u64, u64, u64)> {
        let attempts =
            self.live.iter().flat_map(|(task, attempts)| attempts.iter().map(move |(n, live)| (task, n, live)));
        attempts
            .filter(|(_, _, live)| self.lost.contains(&live.worker) && !live.open.is_empty())
            .map(|(task, epoch, live)| (*task, *epoch, live.worker))
            .collect()
    }
}
