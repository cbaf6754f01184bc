//! A schedule out of a plan's tasks and what a journal says is finished.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::id::{Epoch, Piece, TaskId};
use super::invalid::InvalidSchedule;
use super::limits::Limits;
use super::machine::Schedule;
use super::pace::Pace;
use super::pieces::{PieceState, Pieces};
use super::progress::{Counters, Progress};
use super::ready::ReadyTasks;
use super::receipt::Receipt;
use super::task::{Task, TaskSpec, TaskState};
use super::worker::Workers;

impl Schedule {
    /// A schedule for `tasks`. The pieces in `done` are journaled already.
    ///
    /// `first_epoch` is the number of every task's first attempt. A coordinator that goes on with a merge must choose it above
    /// the numbers of its predecessors, or a worker could take an old attempt for a new one. An empty or finished merge
    /// publishes at its first step.
    ///
    /// # Errors
    /// [`InvalidSchedule`] names the first thing that does not fit together.
    pub fn new(
        tasks: Vec<TaskSpec>,
        limits: Limits,
        first_epoch: Epoch,
        done: impl IntoIterator<Item = (TaskId, Piece, Receipt)>,
    ) -> Result<Self, InvalidSchedule> {
        limits.check()?;
        let attempt_cap = limits.attempt_cap;
        if first_epoch.0.checked_add(attempt_cap).is_none() {
            return Err(InvalidSchedule::EpochOverflow { first: first_epoch, attempt_cap });
        }
        let mut built = build_tasks(&tasks)?;
        check_order(&built)?;
        take_receipts(&mut built, done)?;

        let mut schedule = Self {
            limits,
            first_epoch,
            now: Duration::ZERO,
            tasks: built,
            workers: Workers::default(),
            ready: ReadyTasks::default(),
            in_backoff: BTreeSet::new(),
            running: BTreeSet::new(),
            ticked: Duration::ZERO,
            pace: Pace::default(),
            progress: Progress::default(),
            counters: Counters::default(),
            outcome: None,
        };
        schedule.take_stock();
        Ok(schedule)
    }

    /// Sorts the tasks into done, ready and blocked ones.
    fn take_stock(&mut self) {
        for index in 0..self.tasks.len() {
            if self.tasks[index].persisted as usize == self.tasks[index].pieces.len() {
                self.tasks[index].state = TaskState::Done { closer: None };
                for dependent in std::mem::take(&mut self.tasks[index].dependents) {
                    self.tasks[dependent.0 as usize].blockers -= 1;
                }
            }
        }
        for (task, id) in self.tasks.iter().zip(0..) {
            self.progress.pieces_total += task.pieces.len() as u64;
            self.progress.pieces_done += u64::from(task.persisted);
            self.progress.bytes_total = self.progress.bytes_total.saturating_add(task.bytes);
            self.progress.bytes_done = self.progress.bytes_done.saturating_add(task.bytes_done());
            if matches!(task.state, TaskState::Done { .. }) {
                self.progress.done += 1;
                continue;
            }
            self.progress.waiting += 1;
            if task.blockers == 0 {
                self.ready.insert(TaskId(id), task.affinity);
            }
        }
    }
}

fn build_tasks(specs: &[TaskSpec]) -> Result<Vec<Task>, InvalidSchedule> {
    let count = u32::try_from(specs.len()).map_err(|_| InvalidSchedule::TooManyTasks { tasks: specs.len() })?;
    let mut tasks = Vec::with_capacity(specs.len());
    let mut dependents: Vec<Vec<TaskId>> = vec![Vec::new(); specs.len()];
    for (spec, id) in specs.iter().zip(0..) {
        let task = TaskId(id);
        if spec.pieces.is_empty() {
            return Err(InvalidSchedule::NoPieces { task });
        }
        let pieces = Pieces::missing(&spec.pieces).map_err(|piece| InvalidSchedule::DuplicatePiece { task, piece })?;
        let after: BTreeSet<TaskId> = spec.after.iter().copied().collect();
        if let Some(&after) = after.iter().find(|after| after.0 >= count) {
            return Err(InvalidSchedule::UnknownAfter { task, after });
        }
        for before in &after {
            dependents[before.0 as usize].push(task);
        }
        tasks.push(Task {
            affinity: spec.affinity,
            bytes: spec.bytes,
            dependents: Vec::new(),
            blockers: u32::try_from(after.len()).unwrap_or(u32::MAX),
            state: TaskState::Waiting,
            pieces,
            accepted: 0,
            persisted: 0,
            begun: 0,
            failures: 0,
            last_failure: String::new(),
            ended_by: None,
        });
    }
    for (task, dependents) in tasks.iter_mut().zip(dependents) {
        task.dependents = dependents;
    }
    Ok(tasks)
}

/// Takes away whatever blocks nobody until nothing is left; what remains waits for itself.
fn check_order(tasks: &[Task]) -> Result<(), InvalidSchedule> {
    let mut blockers: Vec<u32> = tasks.iter().map(|task| task.blockers).collect();
    let mut open: VecDeque<usize> = (0..tasks.len()).filter(|&index| blockers[index] == 0).collect();
    while let Some(index) = open.pop_front() {
        for dependent in &tasks[index].dependents {
            let blockers = &mut blockers[dependent.0 as usize];
            *blockers -= 1;
            if *blockers == 0 {
                open.push_back(dependent.0 as usize);
            }
        }
    }
    match (0..).zip(blockers).find(|(_, blockers)| *blockers > 0) {
        Some((id, _)) => Err(InvalidSchedule::Cycle { task: TaskId(id) }),
        None => Ok(()),
    }
}

fn take_receipts(
    tasks: &mut [Task],
    done: impl IntoIterator<Item = (TaskId, Piece, Receipt)>,
) -> Result<(), InvalidSchedule> {
    for (id, piece, receipt) in done {
        let unknown = InvalidSchedule::UnknownReceipt { task: id, piece };
        let task = tasks.get_mut(id.0 as usize).ok_or_else(|| unknown.clone())?;
        let state = task.pieces.get_mut(piece).ok_or(unknown)?;
        match state {
            PieceState::Missing => {
                *state = PieceState::Persisted { receipt };
                task.accepted += 1;
                task.persisted += 1;
            }
            PieceState::Persisted { receipt: known } | PieceState::Accepted { receipt: known, .. } => {
                if *known != receipt {
                    return Err(InvalidSchedule::ConflictingReceipts { task: id, piece });
                }
            }
        }
    }
    Ok(())
}
