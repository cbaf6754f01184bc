//! The schedule of one merge: which worker does which task, and what is finished.
//!
//! A pure machine. [`Schedule::step`] takes the time and one [`Event`], and returns the [`Action`]s that follow from it. There
//! is no clock, no randomness and no I/O here, so that a run can be replayed, and histories be tried by the thousand.
//!
//! ```text
//!  TASK
//!      .--------------------- every piece was journaled before (resume) ---------------------.
//!      |                                                                                     v
//!   +-----------------------+           +--------------+ last     +----------+ last      +------+
//!   | waiting               |  Assign   | running      | piece    | settling | piece     | done |
//!   |                       | --------> |              | -------> |          | --------> |      |
//!   |   blocked             |           | one attempt  | accepted |          | persisted |      |
//!   |      | last `after`   |           |   |    ^     |          +----------+           +------+
//!   |      v is done        |           |   v    |     |
//!   |   ready <--- resting  | <-------- | two attempts |   An attempt ends with its task's last piece, by its worker's
//!   |         delay is over | its last  | (the second  |   error, by its lease, or with its worker. A task that would
//!   +-----------------------+ attempt   |  repeats a   |   wait again when its attempts are used up ends the merge.
//!                             ended     |  slow one)   |
//!                                       +--------------+
//!
//!  PIECE
//!   missing --(first receipt from a live attempt: Persist)--> accepted --(Persisted: Ack)--> persisted
//!
//!  WORKER
//!                                Draining
//!   unknown ----------> ready --------------> draining      Who joins is ready, wherever it comes from.
//!           WorkerJoined |  ^                  |    ^       Besides, a worker can be set aside, for good: it gets
//!            nothing for |  | Heartbeat        |    |       nothing new, but may finish what it runs. And how many
//!               a lease  v  |                  v    |       slots it has changes at any time (Slots): it is shared
//!                        lost                   lost        with other merges.
//!                        '------- Left --------'            (from ready and draining too)
//!                                  v
//!                                 left
//!
//!  MERGE     merging --(every task done: Publish)--> published
//!            merging --(permanent error, attempts used up, Cancel: Revoke..., Abort)--> aborted
//! ```
//!
//! What holds after every step (`properties` tries to break each):
//!
//! - a task has at most two live attempts, on two workers; an epoch is never used twice for a task;
//! - the first receipt of a piece from a live attempt is accepted, persisted once, and never changes;
//! - nothing that an ended attempt reports is accepted;
//! - a piece is acknowledged only once it is persisted, and then to everybody who reported it;
//! - work goes only to a worker that is there, neither draining, set aside nor on the bench, and has a free slot;
//! - an attempt that stands still while others could do its work ends, and nothing is held against its task;
//! - no task starts before every task in its `after` is done;
//! - the merge is published at most once, and only when every piece is persisted.
//!
//! Once faults stop, the merge ends.

mod action;
mod build;
mod cause;
mod event;
mod failure;
mod finish;
mod id;
mod invalid;
mod limits;
mod pieces;
mod placement;
mod presence;
mod progress;
mod ready;
mod report;
mod speculation;
mod stall;
mod task;
mod worker;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

pub use action::{AbortReason, Action, Outcome};
pub use cause::Retries;
pub use event::{ErrorKind, Event};
pub use id::{Epoch, Piece, TaskId, WorkerId};
pub use invalid::InvalidSchedule;
pub use limits::Limits;
pub use progress::{Counters, Progress};
pub use stall::Effort;
pub use task::{Receipt, TaskSpec};

use ready::Ready;
use speculation::Pace;
use task::Task;
use worker::Workers;

/// The schedule of one merge. See the [module](self) for its states.
#[derive(Debug, Clone)]
pub struct Schedule {
    limits: Limits,
    /// The number of every task's first attempt.
    first_epoch: Epoch,
    /// The latest time that was seen.
    now: Duration,
    tasks: Vec<Task>,
    workers: Workers,
    ready: Ready,
    /// Tasks that wait for the delay after a failed attempt, by the time at which it is over.
    resting: BTreeSet<(Duration, TaskId)>,
    /// Tasks with live attempts: never more than the fleet has slots.
    running: BTreeSet<TaskId>,
    /// When [`Event::Tick`] last came.
    ticked: Duration,
    pace: Pace,
    progress: Progress,
    counters: Counters,
    outcome: Option<Outcome>,
}

impl Schedule {
    /// Takes in `event` at `now`, the time since the coordinator started, and returns what is to be done about it, in order.
    ///
    /// `now` may jump ahead; one that is lower than an earlier one counts as that earlier one. Leases run out at [`Event::Tick`]
    /// only, so that a heartbeat that waited in a queue while the coordinator was stopped still counts.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        let mut out = Vec::new();
        if self.outcome.is_some() {
            self.after_the_end(event, &mut out);
            return out;
        }
        let tick = matches!(event, Event::Tick);
        match event {
            Event::WorkerJoined { worker, slots } => self.joined(worker, slots),
            Event::Slots { worker, slots } => self.slots(worker, slots),
            Event::Heartbeat { worker, running } => self.heartbeat(worker, &running, &mut out),
            Event::Draining { worker } => self.draining(worker),
            Event::Left { worker } => self.left(worker, &mut out),
            Event::PieceDone { worker, task, epoch, piece, receipt } => {
                self.piece_done((worker, epoch), task, piece, receipt, &mut out);
            }
            Event::Persisted { task, piece } => self.persisted(task, piece, &mut out),
            Event::TaskFailed { worker, task, epoch, kind, message } => {
                self.task_failed((worker, epoch), task, kind, message, &mut out);
            }
            Event::Tick => {
                self.expire(&mut out);
                if self.outcome.is_none() {
                    self.watch_effort(&mut out);
                }
            }
            Event::Cancel => self.abort(AbortReason::Cancelled, &mut out),
        }
        self.publish_if_done(&mut out);
        if self.outcome.is_none() {
            self.place(&mut out);
            if tick {
                self.speculate(&mut out);
            }
        }
        out
    }

    /// How far the merge is.
    pub fn progress(&self) -> Progress {
        Progress { workers: self.workers.able(), ..self.progress }
    }

    /// How many slots could be in use: tasks that run, that could start now, or that rest after a failure.
    pub fn demand(&self) -> u32 {
        let open = self.running.len() + self.ready.len() + self.resting.len();
        u32::try_from(open).unwrap_or(u32::MAX)
    }

    /// Workers that get nothing new for a while, because their attempts stood still.
    pub fn benched(&self) -> BTreeSet<WorkerId> {
        self.workers.benched(|_| true).into_iter().collect()
    }

    /// Whether somebody works on a task.
    pub fn is_running(&self, task: TaskId) -> bool {
        self.running.contains(&task)
    }

    /// What was counted on the way.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How the merge ended, once it did.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// The accepted receipts of `task` in the order of its pieces; empty for an unknown task. Once the merge is published
    /// they are complete and journaled.
    pub fn receipts(&self, task: TaskId) -> impl Iterator<Item = (Piece, &Receipt)> {
        self.task(task).into_iter().flat_map(Task::receipts)
    }

    /// How many attempts at `task` were begun here. With more than one, parts of it may have been put more than once.
    pub fn attempts(&self, task: TaskId) -> u32 {
        self.task(task).map_or(0, |task| task.begun)
    }

    /// An epoch above all that were used here: where a schedule that follows this one on the same workers may start.
    pub fn next_epoch(&self) -> Epoch {
        let begun = self.tasks.iter().map(|task| task.begun).max().unwrap_or(0);
        // Construction made sure that the highest number of attempts fits.
        Epoch(self.first_epoch.0.saturating_add(begun))
    }

    fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(id.0 as usize)
    }
}
