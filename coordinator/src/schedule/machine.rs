//! The machine: one event at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::action::{AbortReason, Action, Outcome};
use super::event::Event;
use super::id::{Epoch, Piece, TaskId, WorkerId};
use super::limits::Limits;
use super::pace::Pace;
use super::progress::{Counters, Progress};
use super::ready::ReadyTasks;
use super::receipt::Receipt;
use super::task::Task;
use super::worker::Workers;

/// The schedule of one merge. See the [module](super) for its states.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub(super) limits: Limits,
    /// The number of every task's first attempt.
    pub(super) first_epoch: Epoch,
    /// The latest time that was seen.
    pub(super) now: Duration,
    pub(super) tasks: Vec<Task>,
    pub(super) workers: Workers,
    pub(super) ready: ReadyTasks,
    /// Tasks that wait for the delay after a failed attempt, by the time at which it is over.
    pub(super) in_backoff: BTreeSet<(Duration, TaskId)>,
    /// Tasks with live attempts: never more than the fleet has slots.
    pub(super) running: BTreeSet<TaskId>,
    /// When [`Event::Tick`] last came.
    pub(super) ticked: Duration,
    pub(super) pace: Pace,
    pub(super) progress: Progress,
    pub(super) counters: Counters,
    pub(super) outcome: Option<Outcome>,
}

impl Schedule {
    /// Takes in `event` at `now`, the time since the coordinator started, and returns what is to be done about it, in order.
    ///
    /// `now` may jump ahead; it never goes backwards: a lower value counts as the one before. Leases run out at [`Event::Tick`]
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

    /// How many slots could be in use: tasks that run, that could start now, or that are in backoff after a failure.
    pub fn demand(&self) -> u32 {
        let open = self.running.len() + self.ready.len() + self.in_backoff.len();
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

    pub(super) fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(id.0 as usize)
    }
}
