//! The driver: feeds the schedule with what happens and does what it says.
//!
//! One loop owns the schedule. Journal writes run in a task of their own, in batches: while one batch is written the next
//! one gathers, so a receipt waits for one write at the most.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shardfuse_merge::plan::manifest::Manifest;
use shardfuse_merge::plan::recipe::{MeasureId, Recipe};
use shardfuse_merge::plan::task::{
    Assignment, Fill, Gauge, Job, Measured, Work, objects_of, step_sources, tensor_sources, tensors_of,
};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1::{self, from_worker, to_worker};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use crate::admit::{Ready, discard};
use crate::failure::{io, join};
use crate::journal::PieceRecord;
use crate::persist::{Item, Persisted, Persister};
use crate::publish;
use crate::schedule::{
    AbortReason, Action, Epoch, ErrorKind, Event, Limits, Piece, Receipt, Schedule, TaskId, TaskSpec, WorkerId,
};
use crate::service::{Sessions, ToWorker};

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(500);
/// Epochs of the schedule that one coordinator may use: attempts of different coordinators never share a number.
const EPOCHS: u64 = 1000;

/// What the driver is told.
#[derive(Debug)]
pub enum Input {
    /// A worker opened a session.
    Joined {
        /// The worker.
        worker: WorkerId,
        /// Tasks that it takes at a time.
        slots: u32,
        /// Where its messages go.
        outbound: mpsc::Sender<ToWorker>,
    },
    /// A worker said something.
    Said {
        /// The worker.
        worker: WorkerId,
        /// What.
        message: from_worker::Message,
    },
    /// A worker's session ended.
    Left {
        /// The worker.
        worker: WorkerId,
    },
    /// Pieces are journaled.
    Persisted(Persisted),
    /// Stop, and keep what is there.
    Cancel,
}

/// How far a merge is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of finished tasks and parts.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// Finished tasks.
    pub tasks_done: u32,
    /// Tasks in all.
    pub tasks_total: u32,
    /// Whether the output is being published.
    pub publishing: bool,
}

/// The workers that a merge runs on.
#[derive(Debug, Clone, Copy)]
pub struct Fleet<'a> {
    /// The class of all of them.
    pub device_class: &'a str,
    /// There is one worker and no other will come: the merge ends when it cannot go on.
    pub alone: bool,
}

/// How a merge went.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The published manifest.
    pub manifest: Manifest,
    /// Parts that this run put.
    pub pieces_new: u64,
    /// Parts that an earlier run had put.
    pub pieces_kept: u64,
    /// Attempts that had to be made again.
    pub retries: u64,
}

/// Runs a merge to its end.
pub async fn run(
    ready: Ready,
    fleet: Fleet<'_>,
    mut inputs: mpsc::Receiver<Input>,
    mailbox: mpsc::Sender<Input>,
    progress: watch::Sender<Progress>,
) -> Result<Summary> {
    let mut driver = Driver::new(ready, fleet.alone, mailbox, progress)?;
    let mut tick = tokio::time::interval(TICK);
    let outcome = loop {
        let input = tokio::select! {
            input = inputs.recv() => input,
            _ = tick.tick() => None,
            failed = driver.persister.failed() => break Err(failed),
        };
        if let Some(end) = driver.take(input) {
            break end;
        }
    };
    driver.finish(outcome, fleet.device_class).await
}

struct Driver {
    ready: Ready,
    schedule: Schedule,
    started: Instant,
    sessions: Sessions,
    persister: Persister,
    progress: watch::Sender<Progress>,
    pieces: BTreeMap<(u32, u32), PieceRecord>,
    kept: u64,
    measured: HashMap<u32, Measured>,
    /// What a report brought beside its receipt, until it is persisted.
    extras: HashMap<(u32, u32), v1::PieceDone>,
    failures: HashMap<u32, Error>,
    alone: bool,
}

impl Driver {
    fn new(
        mut ready: Ready,
        alone: bool,
        mailbox: mpsc::Sender<Input>,
        progress: watch::Sender<Progress>,
    ) -> Result<Self> {
        let broken =
            |e: &dyn std::fmt::Display| Error::new(Kind::Internal, format!("the plan cannot be scheduled: {e}"));
        let specs = ready.tasks.iter().map(|t| TaskSpec {
            pieces: t.work.pieces().map(Piece).collect(),
            after: t.after.iter().map(|t| TaskId(*t)).collect(),
            affinity: t.affinity,
            bytes: t.bytes,
        });
        let done = ready.done.values().map(|p| (TaskId(p.task), Piece(p.piece), receipt_of(p)));
        let first = u32::try_from(ready.epoch.saturating_sub(1) * EPOCHS + 1).map_err(|e| broken(&e))?;
        let schedule = Schedule::new(specs.collect(), Limits::default(), Epoch(first), done).map_err(|e| broken(&e))?;
        let journal = ready.journal.take().ok_or_else(|| broken(&"the journal is in use"))?;
        let persister = Persister::start(ready.state.clone(), journal, &ready.plan, &ready.tasks, mailbox);
        let pieces: BTreeMap<(u32, u32), PieceRecord> = std::mem::take(&mut ready.done).into_iter().collect();
        let measured = std::mem::take(&mut ready.measured).into_iter().map(|m| (m.id.0, m)).collect();
        Ok(Driver {
            schedule,
            started: Instant::now(),
            sessions: Sessions::default(),
            persister,
            progress,
            kept: pieces.len() as u64,
            pieces,
            measured,
            extras: HashMap::new(),
            failures: HashMap::new(),
            alone,
            ready,
        })
    }

    /// Takes one input (`None`: the time has come to look at leases) and does what follows. Returns the merge's end.
    fn take(&mut self, input: Option<Input>) -> Option<Result<()>> {
        let mut events = Vec::new();
        match input {
            None => events.push(Event::Tick),
            Some(Input::Cancel) => events.push(Event::Cancel),
            Some(Input::Joined { worker, slots, outbound }) => {
                self.sessions.open(worker, outbound);
                events.push(Event::WorkerJoined { worker, slots });
            }
            Some(Input::Left { worker }) => {
                self.sessions.close(worker);
                events.push(Event::Left { worker });
            }
            Some(Input::Said { worker, message }) => events.extend(self.said(worker, message)),
            Some(Input::Persisted(persisted)) => {
                for fact in persisted.measured {
                    self.measured.insert(fact.id.0, fact);
                }
                for record in persisted.pieces {
                    let key = (record.task, record.piece);
                    events.push(Event::Persisted { task: TaskId(record.task), piece: Piece(record.piece) });
                    self.pieces.insert(key, record);
                }
            }
        }
        for event in events {
            let now = self.started.elapsed();
            let actions = self.schedule.step(now, event);
            for action in actions {
                if let Some(end) = self.act(action) {
                    return Some(end);
                }
            }
        }
        self.show(false);
        None
    }

    fn said(&mut self, worker: WorkerId, message: from_worker::Message) -> Option<Event> {
        let ids = |a: &Option<v1::Attempt>| a.as_ref().map(|a| (TaskId(a.task), Epoch(a.epoch)));
        match message {
            from_worker::Message::Heartbeat(beat) => {
                let running = beat.running.iter().map(|a| (TaskId(a.task), Epoch(a.epoch))).collect();
                Some(Event::Heartbeat { worker, running })
            }
            from_worker::Message::Draining(_) => Some(Event::Draining { worker }),
            from_worker::Message::TaskFailed(failed) => {
                let (task, epoch) = ids(&failed.attempt)?;
                let kind = match failed.kind() {
                    v1::ErrorKind::Permanent => ErrorKind::Permanent,
                    v1::ErrorKind::WorkerLocal => ErrorKind::WorkerLocal,
                    v1::ErrorKind::Stale => ErrorKind::Stale,
                    v1::ErrorKind::Transient | v1::ErrorKind::Unspecified => ErrorKind::Transient,
                };
                debug!(%worker, %task, ?kind, message = %failed.message, "a task failed");
                let mut error =
                    Error::new(Kind::parse(&failed.failure).unwrap_or(Kind::Internal), failed.message.clone());
                if !failed.hint.is_empty() {
                    error = error.hint(failed.hint);
                }
                self.failures.insert(task.0, error);
                Some(Event::TaskFailed { worker, task, epoch, kind, message: failed.message })
            }
            from_worker::Message::PieceDone(done) => {
                let (task, epoch) = ids(&done.attempt)?;
                match self.receipt(task, &done) {
                    Some(receipt) => {
                        let piece = Piece(done.piece);
                        self.extras.entry((task.0, done.piece)).or_insert(done);
                        Some(Event::PieceDone { worker, task, epoch, piece, receipt })
                    }
                    None => {
                        let message = format!("the receipt of piece {} of task {task} is malformed", done.piece);
                        Some(Event::TaskFailed { worker, task, epoch, kind: ErrorKind::WorkerLocal, message })
                    }
                }
            }
            from_worker::Message::Hello(_) => {
                warn!(%worker, "a second hello in a session is ignored");
                None
            }
        }
    }

    /// The receipt in a report; `None` if it cannot be one for this task.
    fn receipt(&self, task: TaskId, done: &v1::PieceDone) -> Option<Receipt> {
        let work = self.ready.tasks.get(task.0 as usize)?.work;
        match (work, done.result.as_ref()?) {
            (Work::Fill { file, .. }, v1::piece_done::Result::Part(part)) => {
                let size = self.ready.plan.output.files[file as usize].size;
                let start = u64::from(done.piece).checked_mul(self.ready.plan.spec.part_size)?;
                let expected = size.checked_sub(start)?.min(self.ready.plan.spec.part_size);
                let chaining = <[u8; 32]>::try_from(part.chaining.as_slice()).ok()?;
                (part.length == expected).then(|| Receipt {
                    store_id: part.store_id.clone(),
                    length: part.length,
                    chaining,
                })
            }
            (Work::Measure { .. }, v1::piece_done::Result::Sums(sums)) => Some(Receipt {
                store_id: String::new(),
                length: sums.len() as u64,
                chaining: *blake3::hash(sums).as_bytes(),
            }),
            _ => None,
        }
    }

    fn act(&mut self, action: Action) -> Option<Result<()>> {
        match action {
            Action::Assign { worker, task, epoch, pieces, lease } => match self.assignment(task, epoch, &pieces, lease)
            {
                Ok(assignment) => {
                    let assign = to_worker::Message::Assign((&assignment).into());
                    if !self.sessions.send(worker, assign) {
                        warn!(%worker, %task, "the worker does not take messages; its lease will end");
                    }
                }
                Err(e) => return Some(Err(e)),
            },
            Action::Revoke { worker, task, epoch } => {
                let attempt = Some(v1::Attempt { task: task.0, epoch: epoch.0, merge: self.ready.digest.clone() });
                self.sessions.send(worker, to_worker::Message::Revoke(v1::Revoke { attempt }));
            }
            Action::Ack { worker, task, epoch, piece } => {
                let attempt = Some(v1::Attempt { task: task.0, epoch: epoch.0, merge: self.ready.digest.clone() });
                self.sessions.send(worker, to_worker::Message::Ack(v1::Ack { attempt, piece: piece.0 }));
            }
            Action::Persist { task, piece, epoch, receipt } => {
                let extra = self.extras.remove(&(task.0, piece.0)).unwrap_or_default();
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
                    chaining: blake3::Hash::from_bytes(receipt.chaining),
                    zero: extra.zero_factors,
                    live: extra.live_factors,
                };
                self.persister.put(Item { record, sums });
            }
            Action::TaskDone { task } => debug!(%task, "done"),
            Action::WorkerLost { worker } => {
                info!(%worker, "lost: no sign of it for a lease");
                self.sessions.close(worker);
            }
            Action::SetAside { worker, strikes, message } => {
                warn!(%worker, strikes, %message, "set aside after failures of its own");
                if self.alone && self.schedule.progress().workers == 0 {
                    let last = self.failures.values().find(|e| e.message() == message).cloned();
                    return Some(Err(last.unwrap_or_else(|| Error::new(Kind::Internal, message))));
                }
            }
            Action::Publish => return Some(Ok(())),
            Action::Abort { reason } => return Some(Err(self.reason(reason))),
        }
        None
    }

    fn reason(&self, reason: AbortReason) -> Error {
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

    /// A self-contained assignment.
    fn assignment(&self, task: TaskId, epoch: Epoch, pieces: &[Piece], lease: Duration) -> Result<Assignment> {
        let plan = &self.ready.plan;
        let pieces: Vec<u32> = pieces.iter().map(|p| p.0).collect();
        let facts = |needs: Vec<MeasureId>| -> Result<Vec<Measured>> {
            let missing = |id: MeasureId| {
                Error::new(Kind::Internal, format!("task {task} needs measurement {} before it is there", id.0))
            };
            let mut needs = needs;
            needs.sort_unstable();
            needs.dedup();
            needs.into_iter().map(|id| self.measured.get(&id.0).cloned().ok_or_else(|| missing(id))).collect()
        };
        let (objects, job) = match self.ready.tasks[task.0 as usize].work {
            Work::Fill { file, .. } => {
                let tensors = tensors_of(plan, file, &pieces);
                let out = &plan.output.files[file as usize];
                let measured = facts(tensors.iter().flat_map(|t| Recipe::needs(&t.recipe)).collect())?;
                let fill = Fill {
                    url: join(&self.ready.output, &out.name)?.to_string(),
                    upload: self.ready.uploads[file as usize].as_str().to_owned(),
                    size: out.size,
                    part_size: plan.spec.part_size,
                    parts: pieces,
                    header: (self.ready.state.place(&format!("header/{file}"))?.to_string(), out.header_length),
                    measured,
                    tensors,
                };
                (objects_of(plan, tensor_sources(&fill.tensors)), Job::Fill(fill))
            }
            Work::Measure { id, .. } => {
                let measure = plan.measures[id.0 as usize].clone();
                let measured = facts(measure.needs.clone())?;
                let sources = std::iter::once(&measure.start).chain(step_sources(&measure.steps));
                (objects_of(plan, sources), Job::Gauge(Gauge { blocks: pieces, measured, measure: measure.clone() }))
            }
        };
        Ok(Assignment {
            merge: self.ready.digest.clone(),
            task: task.0,
            epoch: epoch.0,
            lease_ms: lease.as_millis() as u64,
            objects,
            job,
        })
    }

    fn show(&self, publishing: bool) {
        let p = self.schedule.progress();
        self.progress.send_replace(Progress {
            bytes_done: p.bytes_done,
            bytes_total: p.bytes_total,
            tasks_done: p.done,
            tasks_total: p.waiting + p.running + p.done,
            publishing,
        });
    }

    async fn finish(mut self, outcome: Result<()>, device_class: &str) -> Result<Summary> {
        let reason = match &outcome {
            Ok(()) => "the merge is finished".to_owned(),
            Err(e) => e.to_string(),
        };
        self.sessions.stop(&reason);
        // What workers reported before the end is journaled before the end is told.
        let flushed = self.persister.flush().await;
        let outcome = outcome.and(flushed.map(|_| ()));
        match outcome {
            Ok(()) => {
                self.show(true);
                let notes = self.without_effect();
                let manifest = publish::publish(&self.ready, &self.pieces, device_class, notes).await?;
                let counters = self.schedule.counters();
                let pieces_new = self.pieces.len() as u64 - self.kept;
                Ok(Summary { manifest, pieces_new, pieces_kept: self.kept, retries: counters.retries })
            }
            Err(e) if resumable(e.kind()) => Err(e),
            Err(e) => {
                self.clean_up().await?;
                Err(e)
            }
        }
    }

    /// Deltas of which a factor is zero throughout.
    fn without_effect(&self) -> Vec<String> {
        let mut zero: BTreeMap<&str, bool> = BTreeMap::new();
        for piece in self.pieces.values() {
            piece.zero.iter().for_each(|f| _ = zero.entry(f).or_insert(true));
            piece.live.iter().for_each(|f| _ = zero.insert(f, false));
        }
        zero.into_iter().filter(|(_, z)| *z).map(|(f, _)| format!("{f} is all zero: its delta has no effect")).collect()
    }

    /// A failure that will be the same next time leaves neither weights nor journal behind.
    async fn clean_up(&self) -> Result<()> {
        let store = self.ready.stores.open(&self.ready.output);
        self.ready.state.check_epoch(self.ready.epoch).await?;
        discard(&self.ready.state, &*store).await?;
        if self.ready.made_folder {
            store.remove_empty_dir(&self.ready.output).await.map_err(io)?;
        }
        Ok(())
    }
}

fn receipt_of(p: &PieceRecord) -> Receipt {
    Receipt { store_id: p.store_id.clone(), length: p.length, chaining: *p.chaining.as_bytes() }
}

/// Failures of the surroundings: what was done stays, and the same command goes on.
fn resumable(kind: Kind) -> bool {
    matches!(kind, Kind::Interrupted | Kind::NoSpace | Kind::Io | Kind::Internal | Kind::OutputBusy)
}

/// The stores of a merge, shared with its workers in one process.
pub type SharedStores = Arc<shardfuse_store::Stores>;
