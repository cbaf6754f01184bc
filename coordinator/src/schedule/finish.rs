//! How a merge ends, and what is answered afterwards.

use super::action::{AbortReason, Action, Outcome};
use super::event::Event;
use super::machine::Schedule;

impl Schedule {
    pub(super) fn publish_if_done(&mut self, out: &mut Vec<Action>) {
        if self.outcome.is_none() && self.progress.done as usize == self.tasks.len() {
            self.outcome = Some(Outcome::Published);
            out.push(Action::Publish);
        }
    }

    /// Revokes all that runs, and ends the merge.
    pub(super) fn abort(&mut self, reason: AbortReason, out: &mut Vec<Action>) {
        for id in self.running.clone() {
            let epochs: Vec<_> = self.tasks[id.0 as usize].attempts().map(|attempt| attempt.epoch).collect();
            for epoch in epochs {
                if let Some(attempt) = self.release(id, epoch) {
                    out.push(Action::Revoke { worker: attempt.worker, task: id, epoch });
                }
            }
            self.park(id);
        }
        self.outcome = Some(Outcome::Aborted(reason.clone()));
        out.push(Action::Abort { reason });
    }

    /// Workers that have not heard of the end yet are told to stop; all else has no meaning any more.
    pub(super) fn after_the_end(&mut self, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Heartbeat { worker, running } => {
                out.extend(running.into_iter().map(|(task, epoch, _)| Action::Revoke { worker, task, epoch }));
            }
            Event::PieceDone { worker, task, epoch, .. } => {
                self.counters.stale += 1;
                out.push(Action::Revoke { worker, task, epoch });
            }
            Event::TaskFailed { .. } => self.counters.stale += 1,
            Event::WorkerJoined { .. }
            | Event::Slots { .. }
            | Event::Persisted { .. }
            | Event::Draining { .. }
            | Event::Left { .. }
            | Event::Tick
            | Event::Cancel => self.counters.ignored += 1,
        }
    }
}
