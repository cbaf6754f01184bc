//! The fleet, the wires and the journal around a schedule, with everything that can go wrong in them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::model::Model;
use super::moves::Move;
use super::{Check, WORKERS};
use crate::schedule::{
    Action, Effort, Epoch, ErrorKind, Event, Limits, Outcome, Piece, Receipt, Schedule, TaskId, TaskSpec, WorkerId,
};

/// What a worker believes it runs: per attempt, the pieces that were not acknowledged.
type Mind = BTreeMap<(TaskId, Epoch), BTreeSet<Piece>>;

pub(super) struct World {
    pub(super) schedule: Schedule,
    pub(super) model: Model,
    now: Duration,
    minds: BTreeMap<WorkerId, Mind>,
    deaf: BTreeSet<WorkerId>,
    /// Receipts on their way to the journal.
    journal: Vec<(TaskId, Piece)>,
    sent: Vec<Event>,
}

impl World {
    pub(super) fn new(tasks: Vec<TaskSpec>, limits: Limits, first: Epoch, journaled: &[bool]) -> Self {
        let pieces = (0..).zip(&tasks).flat_map(|(id, task)| task.pieces.iter().map(move |piece| (TaskId(id), *piece)));
        let done: Vec<_> = pieces
            .zip(journaled)
            .filter(|(_, journaled)| **journaled)
            .map(|((task, piece), _)| (task, piece, receipt(0, piece)))
            .collect();
        let schedule =
            Schedule::new(tasks.clone(), limits, first, done.iter().cloned()).expect("drawn tasks fit together");
        Self {
            schedule,
            model: Model::new(tasks, limits, first, done),
            now: Duration::ZERO,
            minds: BTreeMap::new(),
            deaf: BTreeSet::new(),
            journal: Vec::new(),
            sent: Vec::new(),
        }
    }

    pub(super) fn make(&mut self, step: Move) -> Check {
        match step {
            Move::Join { worker, slots } => self.send(Event::WorkerJoined { worker: WorkerId(worker), slots }),
            Move::Slots { worker, slots } => self.send(Event::Slots { worker: WorkerId(worker), slots }),
            Move::Beat { worker, truthful, moves } => self.beat(WorkerId(worker), truthful, moves),
            Move::OddBeat { worker, task, epoch } => self.send(Event::Heartbeat {
                worker: WorkerId(worker),
                running: vec![(TaskId(task), Epoch(epoch), Effort::default())],
            }),
            Move::Work { pick, piece, lost } => match self.pick_attempt(pick) {
                Some((worker, task, epoch, open)) if !open.is_empty() && !lost => {
                    let piece = open[piece % open.len()];
                    self.report(worker, task, epoch, piece)
                }
                _ => Ok(()),
            },
            Move::Again { .. } if self.sent.is_empty() => Ok(()),
            Move::Again { pick } => self.send(self.sent[pick % self.sent.len()].clone()),
            Move::OddReport { worker, task, epoch, piece } => {
                self.report(WorkerId(worker), TaskId(task), Epoch(epoch), Piece(piece))
            }
            Move::Fail { pick, kind } => match self.pick_attempt(pick) {
                Some((worker, task, epoch, _)) => self.fail(worker, task, epoch, kind),
                None => Ok(()),
            },
            Move::OddFailure { worker, task, epoch, kind } => {
                self.fail(WorkerId(worker), TaskId(task), Epoch(epoch), kind)
            }
            Move::Deafen { worker, deaf } => {
                if deaf {
                    self.deaf.insert(WorkerId(worker))
                } else {
                    self.deaf.remove(&WorkerId(worker))
                };
                Ok(())
            }
            Move::Restart { worker } => {
                self.minds.remove(&WorkerId(worker));
                Ok(())
            }
            Move::Drain { worker } => self.send(Event::Draining { worker: WorkerId(worker) }),
            Move::Leave { worker } => {
                self.minds.remove(&WorkerId(worker));
                self.send(Event::Left { worker: WorkerId(worker) })
            }
            Move::Tick => self.send(Event::Tick),
            Move::Pass { millis } => {
                self.now += Duration::from_millis(millis);
                Ok(())
            }
            Move::Back { millis } => {
                self.now = self.now.saturating_sub(Duration::from_millis(millis));
                Ok(())
            }
            Move::Journal { .. } if self.journal.is_empty() => Ok(()),
            Move::Journal { pick } => {
                let (task, piece) = self.journal.swap_remove(pick % self.journal.len());
                self.send(Event::Persisted { task, piece })
            }
            // Nobody says that a receipt is journaled which is on its way there; that is what `Journal` is for.
            Move::OddJournal { task, piece } if self.journal.contains(&(TaskId(task), Piece(piece))) => Ok(()),
            Move::OddJournal { task, piece } => self.send(Event::Persisted { task: TaskId(task), piece: Piece(piece) }),
            Move::Cancel => self.send(Event::Cancel),
        }
    }

    /// Faults stop. A new worker joins; of the others those in `healthy` do their work from here on, and the rest is silent.
    pub(super) fn heal(&mut self, healthy: u8, slots: u32) -> Check {
        let fresh = WorkerId(WORKERS);
        let mut fleet: Vec<WorkerId> =
            (0..WORKERS).filter(|worker| (healthy >> worker) & 1 == 1).map(WorkerId).collect();
        fleet.retain(|worker| self.model.has_not_left(*worker));
        fleet.push(fresh);
        self.deaf.clear();
        self.send(Event::WorkerJoined { worker: fresh, slots })?;
        // One lease until the silent are lost, one of backoff at most, and a round for each piece, done once or in vain.
        let rounds = 2 * self.model.lease().as_secs() + 2 * self.schedule.progress().pieces_total + 10;
        for _ in 0..rounds {
            if self.schedule.outcome().is_some() {
                break;
            }
            self.now += Duration::from_secs(1);
            self.send(Event::Tick)?;
            for &worker in &fleet {
                self.beat(worker, true, true)?;
                for ((task, epoch), open) in self.minds.get(&worker).cloned().unwrap_or_default() {
                    if let Some(&piece) = open.first() {
                        self.report(worker, task, epoch, piece)?;
                    }
                }
            }
            for (task, piece) in std::mem::take(&mut self.journal) {
                self.send(Event::Persisted { task, piece })?;
            }
        }
        prop_assert_eq!(self.schedule.outcome(), Some(&Outcome::Published), "after {} rounds", rounds);
        Ok(())
    }

    fn beat(&mut self, worker: WorkerId, truthful: bool, moves: bool) -> Check {
        let mind = self.minds.get(&worker).filter(|_| truthful);
        // What was sent grows with every beat, so this is more than the attempt has shown before.
        let bytes = if moves { self.sent.len() as u64 } else { 0 };
        let effort = match bytes % 3 {
            0 => Effort { read: bytes, ..Effort::default() },
            1 => Effort { fused: bytes, ..Effort::default() },
            _ => Effort { put: bytes, ..Effort::default() },
        };
        let running = mind.map(|mind| mind.keys().map(|&(task, epoch)| (task, epoch, effort)).collect());
        let running = running.unwrap_or_default();
        self.send(Event::Heartbeat { worker, running })
    }

    fn report(&mut self, worker: WorkerId, task: TaskId, epoch: Epoch, piece: Piece) -> Check {
        let receipt = receipt(self.sent.len(), piece);
        self.send(Event::PieceDone { worker, task, epoch, piece, receipt })
    }

    fn fail(&mut self, worker: WorkerId, task: TaskId, epoch: Epoch, kind: ErrorKind) -> Check {
        if let Some(mind) = self.minds.get_mut(&worker) {
            mind.remove(&(task, epoch));
        }
        self.send(Event::TaskFailed { worker, task, epoch, kind, message: format!("{kind:?}") })
    }

    fn pick_attempt(&self, pick: usize) -> Option<(WorkerId, TaskId, Epoch, Vec<Piece>)> {
        let all: Vec<_> = self
            .minds
            .iter()
            .flat_map(|(worker, mind)| mind.iter().map(move |(&(task, epoch), open)| (*worker, task, epoch, open)))
            .collect();
        let &(worker, task, epoch, open) = all.get(pick.checked_rem(all.len())?)?;
        Some((worker, task, epoch, open.iter().copied().collect()))
    }

    /// One step, held against the model, and its actions performed.
    fn send(&mut self, event: Event) -> Check {
        let actions = self.schedule.step(self.now, event.clone());
        self.model.observe(self.now, &event, &actions, &self.schedule)?;
        if let Event::PieceDone { .. } | Event::TaskFailed { .. } | Event::Heartbeat { .. } = event {
            self.sent.push(event);
        }
        for action in actions {
            self.perform(action);
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Assign { worker, task, epoch, pieces, .. } if !self.deaf.contains(&worker) => {
                let mind = self.minds.entry(worker).or_default();
                mind.insert((task, epoch), pieces.into_iter().collect());
            }
            Action::Revoke { worker, task, epoch } if !self.deaf.contains(&worker) => {
                if let Some(mind) = self.minds.get_mut(&worker) {
                    mind.remove(&(task, epoch));
                }
            }
            Action::Ack { worker, task, epoch, piece } if !self.deaf.contains(&worker) => {
                let Some(mind) = self.minds.get_mut(&worker) else {
                    return;
                };
                if let Some(open) = mind.get_mut(&(task, epoch)) {
                    open.remove(&piece);
                    if open.is_empty() {
                        mind.remove(&(task, epoch));
                    }
                }
            }
            Action::Persist { task, piece, .. } => self.journal.push((task, piece)),
            Action::Assign { .. }
            | Action::Revoke { .. }
            | Action::Ack { .. }
            | Action::TaskDone { .. }
            | Action::WorkerLost { .. }
            | Action::Stalled { .. }
            | Action::Quarantine { .. }
            | Action::Publish
            | Action::Abort { .. } => {}
        }
    }
}

/// A receipt that no other report has, for the bytes of `piece`; one in sixteen stands for other bytes.
fn receipt(number: usize, piece: Piece) -> Receipt {
    let piece = u8::try_from(piece.0).unwrap_or(u8::MAX);
    let bytes = if number % 16 == 15 { 255 } else { piece };
    Receipt { store_id: format!("put {number}"), length: 64, chaining: Some([bytes; 32]) }
}
