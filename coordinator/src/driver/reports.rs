//! What workers say, as events of the schedule.

use shardfuse_merge::plan::task::Work;

use shardfuse_merge::{Error, Kind};
use shardfuse_proto::v1::{self, from_worker};
use shardfuse_store::{PartId, PartSlot};
use tracing::{debug, info};

use super::actor::Driver;
use super::findings::Missed;
use crate::events::MergeEvent;
use crate::schedule::{Epoch, ErrorKind, Event, Piece, Receipt, TaskId, WorkerId};

impl Driver {
    pub(super) fn said(&mut self, worker: WorkerId, message: from_worker::Message) -> Option<Event> {
        if !self.sessions.contains_key(&worker) {
            debug!(%worker, name = self.names.of(worker), "a report from a worker that takes no part is ignored");
            return None;
        }
        // Attempts that are no tasks are checks, and go another way.
        let task = |a: &&v1::Attempt| self.is_task(a.task);
        let ids = |a: &Option<v1::Attempt>| a.as_ref().filter(task).map(|a| (TaskId(a.task), Epoch(a.epoch)));
        match message {
            from_worker::Message::Draining(_) => Some(Event::Draining { worker }),
            from_worker::Message::TaskFailed(failed) => {
                let (task, epoch) = ids(&failed.attempt)?;
                self.task_failed(worker, task, epoch, failed)
            }
            from_worker::Message::PieceDone(done) => {
                let (task, epoch) = ids(&done.attempt)?;
                match self.receipt(task, &done) {
                    Some(receipt) => {
                        let piece = Piece(done.piece);
                        self.extra = Some((worker, done));
                        Some(Event::PieceDone { worker, task, epoch, piece, receipt })
                    }
                    None => {
                        let message = format!("the receipt of piece {} of task {task} is malformed", done.piece);
                        self.quarantine.failed(worker, Error::new(Kind::Internal, message.clone()));
                        Some(Event::TaskFailed { worker, task, epoch, kind: ErrorKind::WorkerLocal, message })
                    }
                }
            }
            // The hub splits heartbeats by merge, and takes the hello.
            from_worker::Message::Heartbeat(_) | from_worker::Message::Hello(_) => None,
        }
    }

    fn task_failed(&mut self, worker: WorkerId, task: TaskId, epoch: Epoch, failed: v1::TaskFailed) -> Option<Event> {
        let kind = match failed.kind() {
            v1::ErrorKind::Permanent => ErrorKind::Permanent,
            v1::ErrorKind::WorkerLocal => ErrorKind::WorkerLocal,
            v1::ErrorKind::Stale => ErrorKind::Stale,
            v1::ErrorKind::Transient | v1::ErrorKind::Unspecified => ErrorKind::Transient,
        };
        info!(
            event = %MergeEvent::Failed,
            merge = %self.setup.label,
            %worker,
            name = self.names.of(worker),
            %task,
            %epoch,
            ?kind,
            error = %failed.message,
            hint = failed.hint,
            "a task failed"
        );
        metrics::counter!("shardfuse_attempts_failed_total", "kind" => kind_name(kind)).increment(1);
        let mut error = Error::new(Kind::parse(&failed.failure).unwrap_or(Kind::Internal), failed.message.clone());
        if !failed.hint.is_empty() {
            error = error.hint(failed.hint);
        }
        if kind == ErrorKind::Stale
            && error.kind() == Kind::PartsLost
            && let Some(file) = self.file_of(task)
        {
            self.look(file, Missed { worker, task, epoch, error });
            return None;
        }
        self.attempt_failed((worker, task, epoch), kind, &error);
        if kind == ErrorKind::WorkerLocal {
            self.quarantine.failed(worker, error.clone());
        }
        self.failures.insert(task.0, error);
        Some(Event::TaskFailed { worker, task, epoch, kind, message: failed.message })
    }

    /// The receipt in a report; `None` if it cannot be one for this task: the piece, the length and the form of the store's id
    /// are held against what was asked for.
    fn receipt(&self, task: TaskId, done: &v1::PieceDone) -> Option<Receipt> {
        let work = self.opened.tasks.get(task.0 as usize)?.work;
        if !work.pieces().contains(&done.piece) {
            return None;
        }
        match (work, done.result.as_ref()?) {
            (Work::Fill { file, .. }, v1::piece_done::Result::Part(part)) => {
                let bytes = self.opened.plan.output.files[file as usize].cut.parts.get(done.piece)?;
                let expected = bytes.end - bytes.start;
                let chaining = match part.chaining.as_slice() {
                    [] if self.opened.copies[file as usize][done.piece as usize] => {
                        self.opened.known.get(&(file, done.piece)).copied()
                    }
                    digest => Some(<[u8; 32]>::try_from(digest).ok()?),
                };
                let slot = PartSlot { number: done.piece, offset: bytes.start };
                let store = self.opened.stores.open(&self.opened.output);
                let formed = store.may_be_part(slot, expected, &PartId::new(&part.store_id));
                (formed && part.length == expected).then(|| Receipt {
                    store_id: part.store_id.clone(),
                    length: part.length,
                    chaining,
                })
            }
            (Work::Reduce { id, .. }, v1::piece_done::Result::Sums(sums)) => {
                let statistic = self.opened.plan.statistics.get(id.0 as usize)?;
                let (sums, rest) = (sums.as_chunks::<8>().0, sums.len() % 8);
                let formed = rest == 0 && sums.as_flattened().len() as u64 == statistic.bytes();
                let numbers: Vec<f64> = sums.iter().map(|sum| f64::from_le_bytes(*sum)).collect();
                (formed && statistic.kind.may_be_state(&numbers)).then(|| Receipt {
                    store_id: String::new(),
                    length: sums.as_flattened().len() as u64,
                    chaining: Some(*blake3::hash(sums.as_flattened()).as_bytes()),
                })
            }
            _ => None,
        }
    }
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Transient => "transient",
        ErrorKind::Permanent => "permanent",
        ErrorKind::WorkerLocal => "worker_local",
        ErrorKind::Stale => "stale",
    }
}
