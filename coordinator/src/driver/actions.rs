//! Doing what the schedule says.

use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1::{self, to_worker};
use shardfuse_proto::{convert, trace};
use tracing::{Span, debug, info, warn};

use super::actor::Driver;
use super::counted::Finished;
use super::setup::Notice;
use crate::checks;
use crate::events::MergeEvent;
use crate::journal::{Effect, PieceRecord};
use crate::persist::Item;
use crate::schedule::{AbortReason, Action, Epoch, Piece, Receipt, TaskId};

impl Driver {
    /// Does it. Returns the merge's end.
    pub(super) fn act(&mut self, action: Action) -> Option<Result<()>> {
        match action {
            Action::Assign { worker, task, epoch, pieces, lease } => {
                match self.assignment(task, epoch, &pieces, lease) {
                    Ok(assignment) => {
                        debug!(event = %MergeEvent::Assigned, merge = %self.setup.label, %worker, name = self.names.of(worker), %task, %epoch, ?pieces, "assigned");
                        metrics::counter!("shardfuse_assignments_total").increment(1);
                        self.begins(worker, task, epoch);
                        let mut assign = v1::Assign::from(&assignment);
                        assign.trace_context = trace::context_of(&Span::current());
                        // In one go: nothing else is said of the attempt before it is whole.
                        convert::split(assign).into_iter().for_each(|message| self.send(worker, message));
                    }
                    Err(e) => return Some(Err(e)),
                }
            }
            Action::Revoke { worker, task, epoch } => {
                debug!(event = %MergeEvent::Revoked, merge = %self.setup.label, %worker, name = self.names.of(worker), %task, %epoch, "revoked");
                let attempt = self.attempt(task, epoch);
                self.send(worker, to_worker::Message::Revoke(v1::Revoke { attempt }));
            }
            Action::Ack { worker, task, epoch, piece } => {
                let attempt = self.attempt(task, epoch);
                self.send(worker, to_worker::Message::Ack(v1::Ack { attempt, piece: piece.0 }));
            }
            Action::Persist { task, piece, epoch, receipt } => self.persist(task, piece, epoch, receipt),
            Action::TaskDone { task } => {
                debug!(event = %MergeEvent::Done, merge = %self.setup.label, %task, "done");
                self.failures.remove(&task.0);
            }
            Action::WorkerLost { worker } => {
                metrics::counter!("shardfuse_workers_lost_total").increment(1);
                info!(event = %MergeEvent::Lost, merge = %self.setup.label, %worker, name = self.names.of(worker), "lost: no sign of it for a lease");
                let lease = self.setup.limits.lease.as_secs_f64();
                let text = format!("it is lost: no sign of it for {lease} s; its tasks go to others");
                self.fault_of(worker, text, Some("look whether its process runs, and at its log"));
            }
            Action::Stalled { worker } => {
                metrics::counter!("shardfuse_workers_stalled_total").increment(1);
                warn!(merge = %self.setup.label, %worker, name = self.names.of(worker), "its tasks stood still while other workers went on; they go to others");
                let text = "its tasks stood still while other workers went on; they go to others".to_owned();
                self.fault_of(worker, text, Some("look at the worker's machine and its way to the store"));
            }
            Action::Quarantine { worker, strikes, message } => {
                warn!(merge = %self.setup.label, %worker, name = self.names.of(worker), strikes, error = %message, "quarantined after failures of its own");
                let error = self.quarantine.set(worker, Error::new(Kind::Internal, message));
                let text = format!(
                    "it gets nothing more of this merge after {strikes} failures of its own: {}",
                    error.message()
                );
                self.fault_of(worker, text, error.advice());
                (self.notify)(Notice::Quarantined { worker });
                self.checks.step(self.started.elapsed(), checks::Event::Barred { worker });
                if self.setup.alone && self.schedule.progress().workers == 0 {
                    return Some(Err(error));
                }
            }
            Action::Publish => return self.begin_checks(),
            Action::Abort { reason } => return Some(Err(self.reason(reason))),
        }
        None
    }

    fn persist(&mut self, task: TaskId, piece: Piece, epoch: Epoch, receipt: Receipt) {
        let (worker, extra) = self.extra.take().unzip();
        debug!(
            event = %MergeEvent::Accepted,
            merge = %self.setup.label,
            worker = worker.map(|worker| worker.0),
            name = worker.and_then(|worker| self.names.of(worker)),
            %task,
            %epoch,
            piece = piece.0,
            "accepted"
        );
        let extra = extra.unwrap_or_default();
        let sums = match extra.result {
            Some(v1::piece_done::Result::Sums(sums)) => Some(sums),
            _ => None,
        };
        let record = PieceRecord {
            task: task.0,
            piece: piece.0,
            epoch: epoch.0,
            store_id: receipt.store_id,
            length: receipt.length,
            chaining: receipt.chaining.map(blake3::Hash::from_bytes),
            worker: worker.map(|worker| worker.0),
            zero: extra.zero_factors,
            live: extra.live_factors,
            effects: extra.effects.map(|told| told.effects.into_iter().filter_map(effect).collect()),
        };
        if self.is_part(task.0) {
            metrics::counter!("shardfuse_bytes_merged_total").increment(record.length);
            Finished::Part.count();
        } else {
            Finished::Block.count();
        }
        self.persister.put(Item { record, sums });
    }

    pub(super) fn reason(&self, reason: AbortReason) -> Error {
        match reason {
            AbortReason::Cancelled => Error::new(Kind::Interrupted, "stopped before the end")
                .hint("run the same command again to go on where it stopped"),
            AbortReason::Permanent { task, ref message, .. } | AbortReason::Exhausted { task, ref message, .. } => {
                match self.failures.get(&task.0).filter(|e| e.message() == message) {
                    Some(error) => error.clone(),
                    None => Error::new(Kind::Internal, reason.to_string()),
                }
            }
        }
    }
}

/// An effect as it is journaled; `None` if there cannot be such an adapter.
fn effect(told: v1::Effect) -> Option<Effect> {
    let largest = told.largest.filter(|most| most.is_finite()).map(f32::to_bits);
    Some(Effect { adapter: u16::try_from(told.adapter).ok()?, moved: told.moved, zero: told.zero, largest })
}
