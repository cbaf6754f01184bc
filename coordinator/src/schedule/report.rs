//! Finished pieces: accepted once, persisted once, acknowledged to all who reported them.

use super::action::Action;
use super::id::{Piece, Reporter, TaskId};
use super::machine::Schedule;
use super::pieces::PieceState;
use super::receipt::Receipt;
use super::task::TaskState;
use super::worker::Presence;

impl Schedule {
    pub(super) fn piece_done(
        &mut self,
        by: Reporter,
        id: TaskId,
        piece: Piece,
        receipt: Receipt,
        out: &mut Vec<Action>,
    ) {
        let (worker, epoch) = by;
        self.sign_of_life(worker, Presence::Here);
        let deadline = self.now.saturating_add(self.limits.lease);
        let Some(task) = self.tasks.get_mut(id.0 as usize) else {
            self.counters.stale += 1;
            out.push(Action::Revoke { worker, task: id, epoch });
            return;
        };
        let closed = task.is_closed_by(by);
        let live = task.attempt_mut(by);
        if live.is_none() && !closed {
            // Its bytes may well be right, but its worker was told to stop and the pieces were given to somebody else.
            self.counters.stale += 1;
            out.push(Action::Revoke { worker, task: id, epoch });
            return;
        }
        if let Some(attempt) = live {
            attempt.deadline = deadline;
            if attempt.finishes(piece) {
                self.workers.moved(worker, self.now);
            }
        }
        let Some(state) = task.pieces.get_mut(piece) else {
            self.counters.ignored += 1;
            return;
        };
        match state {
            PieceState::Missing => {
                *state = PieceState::Accepted { receipt: receipt.clone(), waiting: vec![by] };
                task.accepted += 1;
                self.counters.accepted += 1;
                out.push(Action::Persist { task: id, piece, epoch, receipt });
                if task.accepted as usize == task.pieces.len() {
                    self.settle(id, by, out);
                }
            }
            PieceState::Accepted { receipt: first, waiting } => {
                self.counters.duplicates += 1;
                self.counters.disagreeing += u64::from(!first.same_bytes(&receipt));
                if !waiting.contains(&by) {
                    waiting.push(by);
                }
            }
            PieceState::Persisted { receipt: first } => {
                self.counters.duplicates += 1;
                self.counters.disagreeing += u64::from(!first.same_bytes(&receipt));
                out.push(Action::Ack { worker, task: id, epoch, piece });
            }
        }
    }

    /// Ends the attempts at a task, after `by` has reported its last missing piece.
    fn settle(&mut self, id: TaskId, by: Reporter, out: &mut Vec<Action>) {
        let epochs: Vec<_> = self.tasks[id.0 as usize].attempts().map(|attempt| attempt.epoch).collect();
        let mut closer = None;
        for epoch in epochs {
            let Some(attempt) = self.release(id, epoch) else {
                continue;
            };
            let worker = attempt.worker;
            // Even who reported the last piece may still be at one that another attempt was faster with.
            if (worker, epoch) == by && attempt.open.is_empty() {
                closer = Some(by);
                self.pace.note(self.now.saturating_sub(attempt.started), attempt.given);
                self.workers.update(worker, |worker| (worker.strikes, worker.stalls) = (0, 0));
            } else {
                out.push(Action::Revoke { worker, task: id, epoch });
            }
        }
        self.running.remove(&id);
        self.tasks[id.0 as usize].state = TaskState::Settling { closer };
    }

    pub(super) fn persisted(&mut self, id: TaskId, piece: Piece, out: &mut Vec<Action>) {
        let Some(task) = self.tasks.get_mut(id.0 as usize) else {
            self.counters.ignored += 1;
            return;
        };
        let Some(state @ PieceState::Accepted { .. }) = task.pieces.get_mut(piece) else {
            self.counters.ignored += 1;
            return;
        };
        if let PieceState::Accepted { receipt, waiting } = std::mem::replace(state, PieceState::Missing) {
            *state = PieceState::Persisted { receipt };
            out.extend(waiting.into_iter().map(|(worker, epoch)| Action::Ack { worker, task: id, epoch, piece }));
        }
        let bytes = task.bytes_done();
        task.persisted += 1;
        self.progress.pieces_done += 1;
        self.progress.bytes_done = self.progress.bytes_done.saturating_add(task.bytes_done() - bytes);
        if let TaskState::Settling { closer } = task.state
            && task.persisted as usize == task.pieces.len()
        {
            task.state = TaskState::Done { closer };
            self.done(id, out);
        }
    }

    /// Counts a task as done, and frees those that waited for it.
    fn done(&mut self, id: TaskId, out: &mut Vec<Action>) {
        out.push(Action::TaskDone { task: id });
        self.progress.running -= 1;
        self.progress.done += 1;
        for dependent in std::mem::take(&mut self.tasks[id.0 as usize].dependents) {
            let task = &mut self.tasks[dependent.0 as usize];
            task.blockers -= 1;
            // Resumed ones may be done before what they came after.
            if task.blockers == 0 && matches!(task.state, TaskState::Waiting) {
                self.ready.insert(dependent, task.affinity);
            }
        }
    }
}
