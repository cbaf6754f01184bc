//! The driver of one merge: feeds its schedule with what happens, and does what the schedule says.
//!
//! One loop owns the schedule and waits for nothing but its next input. Journal writes run in a task of their own, in
//! batches: while one batch is written the next one gathers, so a receipt waits for one write at the most. Messages to
//! workers go into their sessions' queues without waiting: a session whose queue is full is cut, and the worker comes
//! back with what was not acknowledged.

mod actions;
mod aside;
mod assignment;
mod checking;
pub mod counted;
mod finish;
mod layers;
mod progress;
mod reports;
mod takeover;
mod uploads;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use shardfuse_merge::output::manifest::Manifest;
use shardfuse_merge::plan::grid::Grid;
use shardfuse_merge::plan::task::StatisticValue;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1::{self, from_worker, to_worker};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::debug;

use crate::admit::Ready;
use crate::checks::{self, Checks};
use crate::events::MergeEvent;
use crate::journal::PieceRecord;
use crate::persist::{Persisted, Persister};
use crate::schedule::{
    AbortReason, Effort, Epoch, Event, Limits, Piece, Receipt, Schedule, TaskId, TaskSpec, WorkerId,
};
use crate::service::ToWorker;

use aside::Aside;
pub use progress::Progress;
use uploads::Missed;

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(500);
/// Epochs of the schedule that one coordinator may use: attempts of different coordinators never share a number.
const EPOCHS: u64 = 1000;
/// Inputs that may wait for a driver.
const INBOX: usize = 4096;

/// What the driver is told.
#[derive(Debug)]
pub enum Input {
    /// A worker of the merge's class opened a session.
    Joined {
        /// The worker.
        worker: WorkerId,
        /// The session's number.
        session: u64,
        /// Tasks of this merge that it takes at a time.
        slots: u32,
        /// Where its messages go.
        outbound: mpsc::Sender<ToWorker>,
    },
    /// The worker's slots were dealt anew.
    Slots {
        /// The worker.
        worker: WorkerId,
        /// Tasks of this merge that it takes at a time from now on.
        slots: u32,
    },
    /// A worker lives, and runs these attempts of this merge.
    Beat {
        /// The worker.
        worker: WorkerId,
        /// Its attempts, and how far they are.
        running: Vec<(TaskId, Epoch, Effort)>,
    },
    /// A worker said something about this merge, or that it drains.
    Said {
        /// The worker.
        worker: WorkerId,
        /// What.
        message: from_worker::Message,
    },
    /// A worker is gone.
    Left {
        /// The worker.
        worker: WorkerId,
    },
    /// Pieces are journaled.
    Persisted(Persisted),
    /// Whether a file's upload, which a put missed, is there after all.
    Looked(u32, Result<bool>),
    /// Somebody wants to see the layer set.
    Layers(oneshot::Sender<Option<Grid>>),
    /// Stop, and keep what is there.
    Cancel,
}

/// What the driver tells whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A worker gets nothing more of this merge.
    SetAside {
        /// The worker.
        worker: WorkerId,
    },
    /// A session takes no more messages.
    Cut {
        /// The worker.
        worker: WorkerId,
        /// The session.
        session: u64,
    },
    /// Every part is journaled; from here on nothing is taken any more.
    Publishing,
}

/// How a merge is driven.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Names the merge in attempts: workers hand it back with all that they say.
    pub label: String,
    /// The class of its workers.
    pub device_class: String,
    /// Limits of the schedule.
    pub limits: Limits,
    /// The share of the parts that other workers compute again before publication, from 0 to 1.
    pub verify_parts: f64,
    /// There is one worker and no other will come: the merge ends when it cannot go on.
    pub alone: bool,
    /// How long a merge lives of which every worker was set aside with the same failure.
    pub patience: Duration,
    /// How often it is checked that no other coordinator has taken the merge over.
    pub watch_every: Duration,
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

/// A driver's inbox: the sending half, and the half that [`run`] takes.
pub fn inbox() -> (mpsc::Sender<Input>, mpsc::Receiver<Input>) {
    mpsc::channel(INBOX)
}

/// Runs a merge to its end. `mailbox` is the sending half of `inputs`.
pub async fn run(
    ready: Ready,
    setup: Setup,
    mailbox: mpsc::Sender<Input>,
    mut inputs: mpsc::Receiver<Input>,
    progress: watch::Sender<Progress>,
    notify: impl Fn(Notice) + Send + Sync + 'static,
) -> Result<Summary> {
    let taken_over = takeover::watch(ready.state.clone(), ready.claim.clone(), setup.watch_every);
    tokio::pin!(taken_over);
    let mut driver = Driver::new(ready, setup, mailbox, progress, Box::new(notify))?;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let outcome = loop {
        let input = tokio::select! {
            input = inputs.recv() => input,
            _ = tick.tick() => None,
            failed = driver.persister.failed() => break Err(failed),
            lost = &mut taken_over => break Err(lost),
        };
        if let Some(end) = driver.take(input) {
            break end;
        }
    };
    // Whoever sends from here on learns that nobody takes it.
    drop(inputs);
    driver.finish(outcome).await
}

struct Driver {
    ready: Ready,
    setup: Setup,
    schedule: Schedule,
    started: Instant,
    /// The open sessions of the merge's workers.
    sessions: BTreeMap<WorkerId, (u64, mpsc::Sender<ToWorker>)>,
    persister: Persister,
    progress: watch::Sender<Progress>,
    notify: Box<dyn Fn(Notice) + Send + Sync>,
    pieces: BTreeMap<(u32, u32), PieceRecord>,
    kept: u64,
    measured: HashMap<u32, StatisticValue>,
    /// What the report that is looked at brought beside its receipt, and who sent it.
    extra: Option<(WorkerId, v1::PieceDone)>,
    checks: Checks,
    /// Which share was checked.
    seed: u64,
    /// What the checks came to.
    verified: Option<String>,
    lost: Option<checking::Lost>,
    /// The last failure of each task.
    failures: HashMap<u32, Error>,
    aside: Aside,
    mailbox: mpsc::Sender<Input>,
    /// The files whose uploads are looked for, with the puts that missed them.
    looking: HashMap<u32, Vec<Missed>>,
}

impl Driver {
    fn new(
        mut ready: Ready,
        setup: Setup,
        mailbox: mpsc::Sender<Input>,
        progress: watch::Sender<Progress>,
        notify: Box<dyn Fn(Notice) + Send + Sync>,
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
        let schedule = Schedule::new(specs.collect(), setup.limits, Epoch(first), done).map_err(|e| broken(&e))?;
        let journal = ready.journal.take().ok_or_else(|| broken(&"the journal is in use"))?;
        let persister = Persister::start(ready.state.clone(), journal, &ready.plan, &ready.tasks, mailbox.clone());
        let pieces: BTreeMap<(u32, u32), PieceRecord> = std::mem::take(&mut ready.done).into_iter().collect();
        let measured = std::mem::take(&mut ready.measured).into_iter().map(|m| (m.id.0, m)).collect();
        let driver = Driver {
            schedule,
            started: Instant::now(),
            sessions: BTreeMap::new(),
            persister,
            progress,
            notify,
            kept: pieces.len() as u64,
            pieces,
            measured,
            extra: None,
            checks: Checks::new(setup.limits.lease, setup.patience, Epoch(first)),
            seed: 0,
            verified: None,
            lost: None,
            failures: HashMap::new(),
            aside: Aside::new(setup.patience),
            mailbox,
            looking: HashMap::new(),
            setup,
            ready,
        };
        driver.show(false);
        Ok(driver)
    }

    /// Takes one input (`None`: the time has come to look at leases) and does what follows. Returns the merge's end.
    fn take(&mut self, input: Option<Input>) -> Option<Result<()>> {
        let now = self.started.elapsed();
        match input {
            None => {
                let end = self.step(now, Event::Tick);
                if end.is_some() {
                    return end;
                }
                let end = self.check(now, checks::Event::Tick);
                if end.is_some() {
                    return end;
                }
                if let Some(error) = self.aside.hopeless(now, self.sessions.keys())
                    && !self.checks.is_under_way()
                {
                    return Some(Err(error));
                }
            }
            Some(Input::Persisted(persisted)) => {
                for fact in persisted.measured {
                    self.measured.insert(fact.id.0, fact);
                }
                for record in persisted.pieces {
                    let event = Event::Persisted { task: TaskId(record.task), piece: Piece(record.piece) };
                    self.pieces.insert((record.task, record.piece), record);
                    let end = self.step(now, event);
                    if end.is_some() {
                        return end;
                    }
                }
            }
            Some(Input::Looked(file, there)) => {
                let end = match self.looked(file, there) {
                    Ok(events) => events.into_iter().find_map(|event| self.step(now, event)),
                    Err(e) => Some(Err(e)),
                };
                if end.is_some() {
                    return end;
                }
            }
            // The schedule has ended by then, and takes no notice.
            Some(Input::Cancel) if self.checks.is_under_way() => {
                return Some(Err(self.reason(AbortReason::Cancelled)));
            }
            Some(input) => {
                let input = self.without_the_odd(input);
                let checks = self.check_event(&input);
                if let Some(event) = self.event(input) {
                    let end = self.step(now, event);
                    self.extra = None;
                    if end.is_some() {
                        return end;
                    }
                }
                if let Some(event) = checks {
                    let end = self.check(now, event);
                    if end.is_some() {
                        return end;
                    }
                }
            }
        }
        self.show(false);
        None
    }

    /// A worker that was odd in an earlier run gets no slots of this merge.
    fn without_the_odd(&self, mut input: Input) -> Input {
        if let Input::Joined { worker, slots, .. } | Input::Slots { worker, slots } = &mut input
            && self.ready.odd.contains(&worker.0)
        {
            (self.notify)(Notice::SetAside { worker: *worker });
            *slots = 0;
        }
        input
    }

    /// What an input means to the schedule, if anything.
    fn event(&mut self, input: Input) -> Option<Event> {
        match input {
            Input::Joined { worker, session, slots, outbound } => {
                self.sessions.insert(worker, (session, outbound));
                Some(Event::WorkerJoined { worker, slots })
            }
            Input::Slots { worker, slots } => Some(Event::Slots { worker, slots }),
            Input::Beat { worker, mut running } => {
                running.retain(|(task, ..)| self.is_task(task.0));
                Some(Event::Heartbeat { worker, running })
            }
            Input::Left { worker } => {
                debug!(event = %MergeEvent::Left, merge = %self.setup.label, %worker, "left");
                self.sessions.remove(&worker);
                Some(Event::Left { worker })
            }
            Input::Said { worker, message } => self.said(worker, message),
            Input::Cancel => Some(Event::Cancel),
            Input::Layers(reply) => {
                // Whoever does not wait for it any more needs none.
                let _ = reply.send(Some(self.layers()));
                None
            }
            Input::Persisted(_) | Input::Looked(..) => None,
        }
    }

    fn step(&mut self, now: Duration, event: Event) -> Option<Result<()>> {
        let actions = self.schedule.step(now, event);
        actions.into_iter().find_map(|action| self.act(action))
    }

    /// Sends without waiting.
    fn send(&mut self, worker: WorkerId, message: to_worker::Message) {
        let Some((session, outbound)) = self.sessions.get(&worker) else { return };
        if outbound.try_send(Ok(v1::ToWorker { message: Some(message) })).is_err() {
            (self.notify)(Notice::Cut { worker, session: *session });
            self.sessions.remove(&worker);
        }
    }

    fn attempt(&self, task: TaskId, epoch: Epoch) -> Option<v1::Attempt> {
        Some(v1::Attempt { task: task.0, epoch: epoch.0, merge: self.setup.label.clone() })
    }
}

fn receipt_of(p: &PieceRecord) -> Receipt {
    Receipt { store_id: p.store_id.clone(), length: p.length, chaining: *p.chaining.as_bytes() }
}
