//! Parts that other workers compute again before publication: the driver's side of [`crate::checks`].
//!
//! A check goes over the wire as a task of its own, numbered behind the plan's, so that no report can be taken for another.

use std::time::Duration;

use shardfuse_merge::plan::task::{Job, Work};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::convert;
use shardfuse_proto::v1::{self, from_worker, piece_done, to_worker};
use tracing::{debug, info, warn};

use super::actor::Driver;
use super::counted::Finished;
use super::findings::Lost;
use super::input::Input;
use super::parts::is_part;
use super::setup::Notice;
use super::unverified::unverified;
use crate::checks::{Action, CheckId, Digest, Event, Part, Verdict};
use crate::schedule::{Epoch, Piece, TaskId, WorkerId};

impl Driver {
    fn is_check(&self, task: u32) -> Option<CheckId> {
        let tasks = u32::try_from(self.opened.tasks.len()).ok()?;
        task.checked_sub(tasks).map(CheckId)
    }

    /// Attempts of a heartbeat that are checks.
    fn checks_in(&self, running: &[(TaskId, Epoch, crate::schedule::Effort)]) -> Vec<(CheckId, Epoch)> {
        running.iter().filter_map(|(task, epoch, _)| Some((self.is_check(task.0)?, *epoch))).collect()
    }

    /// Whether an attempt is one of the plan's tasks.
    pub(super) fn is_task(&self, task: u32) -> bool {
        self.is_check(task).is_none()
    }

    /// What an input means to the checks, if anything.
    pub(super) fn check_event(&self, input: &Input) -> Option<Event> {
        let about = |attempt: &Option<v1::Attempt>| {
            let attempt = attempt.as_ref()?;
            Some((self.is_check(attempt.task)?, Epoch(attempt.epoch)))
        };
        match input {
            Input::Joined { worker, slots, .. } => Some(Event::Joined { worker: *worker, slots: *slots }),
            Input::Slots { worker, slots } => Some(Event::Slots { worker: *worker, slots: *slots }),
            Input::Left { worker } => Some(Event::Left { worker: *worker }),
            Input::Beat { worker, running } => {
                Some(Event::Heartbeat { worker: *worker, running: self.checks_in(running) })
            }
            Input::Said { worker, message } => match message {
                from_worker::Message::Draining(_) => Some(Event::Draining { worker: *worker }),
                from_worker::Message::TaskFailed(failed) => {
                    let (check, epoch) = about(&failed.attempt)?;
                    Some(Event::Failed { worker: *worker, check, epoch, message: failed.message.clone() })
                }
                from_worker::Message::PieceDone(done) => {
                    let (check, epoch) = about(&done.attempt)?;
                    Some(match digest(done) {
                        Some(digest) => Event::Made { worker: *worker, check, epoch, digest },
                        None => {
                            Event::Failed { worker: *worker, check, epoch, message: "a malformed report".to_owned() }
                        }
                    })
                }
                from_worker::Message::Heartbeat(_) | from_worker::Message::Hello(_) => None,
            },
            Input::Persisted(_) | Input::Looked(..) | Input::Layers(_) | Input::Cancel => None,
        }
    }

    /// Every part is journaled: publishes, or checks a share of them first.
    pub(super) fn begin_checks(&mut self) -> Option<Result<()>> {
        let share = self.setup.verify_parts;
        if share <= 0.0 {
            return Some(Ok(()));
        }
        // What the store copied and nobody read has no digest to compare with.
        let part = |p: &crate::journal::PieceRecord| {
            let (task, piece, maker) = (TaskId(p.task), Piece(p.piece), p.worker.map(WorkerId));
            Some(Part { task, piece, maker, digest: *p.chaining?.as_bytes() })
        };
        let parts: Vec<Part> = self.pieces.values().filter(|p| self.is_part(p.task)).filter_map(part).collect();
        // Drawn when every part is made: nobody could know which would be looked at.
        self.seed = match getrandom::u64() {
            Ok(seed) => seed,
            Err(e) => return Some(Err(Error::new(Kind::Internal, format!("the system has no randomness: {e}")))),
        };
        info!(merge = %self.setup.label, share, seed = self.seed, parts = parts.len(), "parts are computed again before publication");
        let actions = self.checks.begin(self.started.elapsed(), parts, self.seed, share);
        self.do_checks(actions)
    }

    /// Takes in an event of the checks. Returns the merge's end.
    pub(super) fn check(&mut self, now: Duration, event: Event) -> Option<Result<()>> {
        let actions = self.checks.step(now, event);
        self.do_checks(actions)
    }

    fn do_checks(&mut self, actions: Vec<Action>) -> Option<Result<()>> {
        actions.into_iter().find_map(|action| self.do_check(action))
    }

    fn do_check(&mut self, action: Action) -> Option<Result<()>> {
        match action {
            Action::Assign { worker, check, epoch } => return self.assign_check(worker, check, epoch).err().map(Err),
            Action::Revoke { worker, check, epoch } => {
                let attempt = self.attempt(self.task_of(check), epoch);
                self.send(worker, to_worker::Message::Revoke(v1::Revoke { attempt }));
            }
            Action::Ack { worker, check, epoch } => {
                Finished::Check.count();
                let attempt = self.attempt(self.task_of(check), epoch);
                let piece = self.checks.part(check).map_or(0, |part| part.piece.0);
                self.send(worker, to_worker::Message::Ack(v1::Ack { attempt, piece }));
            }
            Action::Odd { worker, check } => {
                metrics::counter!("shardfuse_workers_odd_total").increment(1);
                warn!(merge = %self.setup.label, %worker, name = self.names.of(worker), part = self.name_of(check), "it computed different bytes than two other workers; nothing more goes to it");
                let text = format!(
                    "it computed other bytes of {} than two other workers; nothing more goes to it",
                    self.name_of(check)
                );
                self.fault_of(worker, text, Some("look at the machine's memory; its other merges may be wrong too"));
                (self.notify)(Notice::Quarantined { worker });
            }
            Action::End(verdict) => return Some(self.judge(verdict)),
        }
        None
    }

    fn assign_check(&mut self, worker: WorkerId, check: CheckId, epoch: Epoch) -> Result<()> {
        let Some(part) = self.checks.part(check) else { return Ok(()) };
        let mut assignment = self.assignment(part.task, epoch, &[part.piece], self.setup.limits.lease)?;
        assignment.task = self.task_of(check).0;
        if let Job::Fill(fill) = &mut assignment.job {
            fill.check = true;
        }
        debug!(merge = %self.setup.label, %worker, name = self.names.of(worker), part = self.name_of(check), "assigned to be computed again");
        convert::split(v1::Assign::from(&assignment)).into_iter().for_each(|message| self.send(worker, message));
        Ok(())
    }

    fn judge(&mut self, verdict: Verdict) -> Result<()> {
        let parts = self.pieces.values().filter(|p| self.is_part(p.task)).count();
        match verdict {
            Verdict::Sound { checked } => {
                info!(merge = %self.setup.label, checked, parts, seed = self.seed, "the parts that were computed again are the same");
                let seed = self.seed;
                self.verified = Some(format!(
                    "{checked} of {parts} parts were computed again on another worker before publication, with the same bytes (seed {seed})"
                ));
                Ok(())
            }
            Verdict::Lost { parts: lost, odd } => {
                let named: Vec<String> = odd.iter().map(|worker| self.names.called(*worker)).collect();
                let message = format!(
                    "{} computed different bytes than two other workers: {} of its parts must be made again",
                    named.join(" and "),
                    lost.len()
                );
                self.lost = Some(Lost {
                    pieces: lost.into_iter().map(|(task, piece)| (task.0, piece.0)).collect(),
                    odd: odd.into_iter().map(|worker| worker.0).collect(),
                });
                Err(Error::new(Kind::PartsLost, message).hint(
                    "run the same command again: it goes on where it stopped, without that worker. Test the memory of its machine",
                ))
            }
            Verdict::Undecided { check, had, why } => {
                let timeout = self.setup.no_worker_timeout;
                Err(unverified(&self.name_of(check), &self.called(&had), &why, timeout))
            }
        }
    }

    /// Digests with the workers that made them, in words.
    fn called(&self, had: &[(Option<WorkerId>, Digest)]) -> Vec<(Option<String>, Digest)> {
        had.iter().map(|(worker, digest)| (worker.map(|worker| self.names.called(worker)), *digest)).collect()
    }

    /// Whether the pieces of a task are parts.
    pub(super) fn is_part(&self, task: u32) -> bool {
        is_part(&self.opened.tasks, task)
    }

    fn task_of(&self, check: CheckId) -> TaskId {
        TaskId(u32::try_from(self.opened.tasks.len()).unwrap_or(u32::MAX).saturating_add(check.0))
    }

    /// A part in words.
    fn name_of(&self, check: CheckId) -> String {
        let Some(part) = self.checks.part(check) else { return format!("check {}", check.0) };
        match self.opened.tasks[part.task.0 as usize].work {
            Work::Fill { file, .. } => {
                format!("part {} of {}", part.piece, self.opened.plan.output.files[file as usize].name)
            }
            Work::Reduce { .. } => format!("piece {} of task {}", part.piece, part.task),
        }
    }
}

fn digest(done: &v1::PieceDone) -> Option<Digest> {
    match done.result.as_ref()? {
        piece_done::Result::Part(part) => part.chaining.as_slice().try_into().ok(),
        piece_done::Result::Sums(_) => None,
    }
}
