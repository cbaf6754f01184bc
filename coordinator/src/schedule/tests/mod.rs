//! Each rule of the schedule by itself. `properties` tries them together.

mod building;
mod ending;
mod failing;
mod leases;
mod locality;
mod placing;
mod reporting;
mod resuming;
mod scale;
mod speculating;
mod stalling;

use std::time::Duration;

use super::{Action, Effort, Epoch, ErrorKind, Event, Limits, Piece, Receipt, Schedule, TaskId, TaskSpec, WorkerId};

pub(super) const LEASE: Duration = Duration::from_secs(30);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A schedule, its clock, and short words for its events.
struct Bench {
    schedule: Schedule,
    now: Duration,
}

impl Bench {
    fn new(tasks: Vec<TaskSpec>) -> Self {
        Self::limited(tasks, Limits::default())
    }

    fn limited(tasks: Vec<TaskSpec>, limits: Limits) -> Self {
        let schedule = Schedule::new(tasks, limits, Epoch(1), []).expect("these tasks fit together");
        Self { schedule, now: Duration::ZERO }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        self.schedule.step(self.now, event)
    }

    fn join(&mut self, worker: u64, slots: u32) -> Vec<Action> {
        self.step(Event::WorkerJoined { worker: WorkerId(worker), slots })
    }

    fn beat(&mut self, worker: u64, running: &[(u32, u32)]) -> Vec<Action> {
        self.beat_at(worker, running, 0)
    }

    /// A heartbeat with attempts that have all read the same number of bytes.
    fn beat_at(&mut self, worker: u64, running: &[(u32, u32)], read: u64) -> Vec<Action> {
        let effort = Effort { read, ..Effort::default() };
        let running = running.iter().map(|&(task, epoch)| (TaskId(task), Epoch(epoch), effort)).collect();
        self.step(Event::Heartbeat { worker: WorkerId(worker), running })
    }

    fn drain(&mut self, worker: u64) -> Vec<Action> {
        self.step(Event::Draining { worker: WorkerId(worker) })
    }

    fn leave(&mut self, worker: u64) -> Vec<Action> {
        self.step(Event::Left { worker: WorkerId(worker) })
    }

    fn report(&mut self, worker: u64, task: u32, epoch: u32, piece: u32) -> Vec<Action> {
        let receipt = receipt(&format!("{worker}/{task}/{epoch}/{piece}"));
        self.report_with(worker, task, epoch, piece, receipt)
    }

    fn report_with(&mut self, worker: u64, task: u32, epoch: u32, piece: u32, receipt: Receipt) -> Vec<Action> {
        let (worker, task, epoch, piece) = (WorkerId(worker), TaskId(task), Epoch(epoch), Piece(piece));
        self.step(Event::PieceDone { worker, task, epoch, piece, receipt })
    }

    fn persist(&mut self, task: u32, piece: u32) -> Vec<Action> {
        self.step(Event::Persisted { task: TaskId(task), piece: Piece(piece) })
    }

    /// Reports a piece and has it journaled.
    fn finish(&mut self, worker: u64, task: u32, epoch: u32, piece: u32) -> Vec<Action> {
        let mut actions = self.report(worker, task, epoch, piece);
        actions.extend(self.persist(task, piece));
        actions
    }

    fn fail(&mut self, worker: u64, task: u32, epoch: u32, kind: ErrorKind, message: &str) -> Vec<Action> {
        let (worker, task, epoch, message) = (WorkerId(worker), TaskId(task), Epoch(epoch), message.to_owned());
        self.step(Event::TaskFailed { worker, task, epoch, kind, message })
    }

    fn tick(&mut self) -> Vec<Action> {
        self.step(Event::Tick)
    }
}

/// `count` tasks of `pieces` pieces each, all of one affinity.
fn tasks(count: u32, pieces: u32) -> Vec<TaskSpec> {
    (0..count).map(|_| task(pieces)).collect()
}

fn task(pieces: u32) -> TaskSpec {
    TaskSpec { pieces: (0..pieces).map(Piece).collect(), after: Vec::new(), affinity: 0, bytes: 100 }
}

/// One task of one piece for each affinity.
fn of_affinities(affinities: &[u64]) -> Vec<TaskSpec> {
    affinities.iter().map(|&affinity| TaskSpec { affinity, ..task(1) }).collect()
}

fn receipt(store_id: &str) -> Receipt {
    Receipt { store_id: store_id.to_owned(), length: 64, chaining: Some([7; 32]) }
}

/// (worker, task, epoch, pieces) of every assignment.
fn assigned(actions: &[Action]) -> Vec<(u64, u32, u32, Vec<u32>)> {
    let assignment = |action: &Action| match action {
        Action::Assign { worker, task, epoch, pieces, .. } => {
            Some((worker.0, task.0, epoch.0, pieces.iter().map(|piece| piece.0).collect()))
        }
        _ => None,
    };
    actions.iter().filter_map(assignment).collect()
}

/// (worker, task) of every assignment.
fn given(actions: &[Action]) -> Vec<(u64, u32)> {
    assigned(actions).into_iter().map(|(worker, task, ..)| (worker, task)).collect()
}

/// (worker, task, epoch) of every revocation.
fn revoked(actions: &[Action]) -> Vec<(u64, u32, u32)> {
    let revocation = |action: &Action| match action {
        Action::Revoke { worker, task, epoch } => Some((worker.0, task.0, epoch.0)),
        _ => None,
    };
    actions.iter().filter_map(revocation).collect()
}

/// (worker, task, epoch, piece) of every acknowledgement.
fn acked(actions: &[Action]) -> Vec<(u64, u32, u32, u32)> {
    let acknowledgement = |action: &Action| match action {
        Action::Ack { worker, task, epoch, piece } => Some((worker.0, task.0, epoch.0, piece.0)),
        _ => None,
    };
    actions.iter().filter_map(acknowledgement).collect()
}

/// (task, piece, epoch) of every receipt to journal.
fn to_persist(actions: &[Action]) -> Vec<(u32, u32, u32)> {
    let writing = |action: &Action| match action {
        Action::Persist { task, piece, epoch, .. } => Some((task.0, piece.0, epoch.0)),
        _ => None,
    };
    actions.iter().filter_map(writing).collect()
}

fn published(actions: &[Action]) -> bool {
    actions.contains(&Action::Publish)
}
