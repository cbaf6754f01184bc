//! Runs one merge: the loop, and what each input leads to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use shardfuse_merge::plan::task::StatisticValue;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1::{self, to_worker};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::debug;

use super::findings::{Lost, Missed};
use super::input::Input;
use super::mailbox::{Inbox, Mailbox};
use super::names::Names;
use super::parts::Parts;
use super::progress::Progress;
use super::quarantine::Quarantine;
use super::setup::{Notice, Setup, Summary};
use super::survival::Survival;
use super::takeover;
use crate::checks::{self, Checks};
use crate::events::MergeEvent;
use crate::journal::PieceRecord;
use crate::opened::{Opened, ReadyMerge};
use crate::outbound::ToWorker;
use crate::persist::Persister;
use crate::schedule::{AbortReason, Epoch, Event, Piece, Receipt, Schedule, TaskId, TaskSpec, WorkerId};

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(500);
/// Epochs of the schedule that one coordinator may use: attempts of different coordinators never share a number.
const EPOCHS: u64 = 1000;

/// Runs a merge to its end. `mailbox` is the sending half of `inputs`.
pub async fn run(
    ready: ReadyMerge,
    setup: Setup,
    mailbox: Mailbox,
    mut inputs: Inbox,
    progress: watch::Sender<Progress>,
    notify: impl Fn(Notice) + Send + Sync + 'static,
) -> Result<Summary> {
    let taken_over = takeover::watch(ready.opened.state.clone(), ready.opened.claim.clone(), setup.watch_every);
    tokio::pin!(taken_over);
    let mut driver = Driver::new(ready, setup, mailbox, progress, Box::new(notify))?;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let known = driver.survival.check().err();
    let outcome = loop {
        if let Some(lost) = known {
            break Err(lost);
        }
        let input = tokio::select! {
            input = inputs.recv() => Some(input),
            _ = tick.tick() => None,
            failed = driver.persister.failed() => break Err(failed),
            lost = &mut taken_over => break Err(lost),
        };
        if let Some(end) = driver.take(input) {
            break end;
        }
    };
    // A send after this fails, so the sender learns that the driver has ended.
    drop(inputs);
    driver.finish(outcome).await
}

/// A driver. What it does about actions, reports and checks stands in files of their own.
pub(super) struct Driver {
    pub(super) opened: Opened,
    /// Workers that computed other bytes than two others in an earlier run.
    pub(super) odd: BTreeSet<u64>,
    pub(super) setup: Setup,
    pub(super) schedule: Schedule,
    pub(super) started: Instant,
    /// The number of first attempts.
    pub(super) first: Epoch,
    /// The open sessions of the merge's workers.
    pub(super) sessions: BTreeMap<WorkerId, (u64, mpsc::Sender<ToWorker>)>,
    pub(super) names: Names,
    pub(super) persister: Persister,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) notify: Box<dyn Fn(Notice) + Send + Sync>,
    pub(super) pieces: BTreeMap<(u32, u32), PieceRecord>,
    pub(super) parts: Parts,
    pub(super) measured: HashMap<u32, StatisticValue>,
    /// How much of each delta survives where weights are encoded again.
    pub(super) survival: Survival,
    /// What the report that is looked at brought beside its receipt, and who sent it.
    pub(super) extra: Option<(WorkerId, v1::PieceDone)>,
    pub(super) checks: Checks,
    /// Which share was checked.
    pub(super) seed: u64,
    /// What the checks came to.
    pub(super) verified: Option<String>,
    pub(super) lost: Option<Lost>,
    /// The last failure of each task.
    pub(super) failures: HashMap<u32, Error>,
    pub(super) quarantine: Quarantine,
    pub(super) mailbox: Mailbox,
    /// The files whose uploads are looked for, with the puts that missed them.
    pub(super) looking: HashMap<u32, Vec<Missed>>,
}

impl Driver {
    fn new(
        ready: ReadyMerge,
        setup: Setup,
        mailbox: Mailbox,
        progress: watch::Sender<Progress>,
        notify: Box<dyn Fn(Notice) + Send + Sync>,
    ) -> Result<Self> {
        let broken =
            |e: &dyn std::fmt::Display| Error::new(Kind::Internal, format!("the plan cannot be scheduled: {e}"));
        let ReadyMerge { opened, resumed, journal } = ready;
        let specs = opened.tasks.iter().map(|t| TaskSpec {
            pieces: t.work.pieces().map(Piece).collect(),
            after: t.after.iter().map(|t| TaskId(*t)).collect(),
            affinity: t.affinity,
            bytes: t.bytes,
        });
        let done = resumed.pieces.values().map(|p| (TaskId(p.task), Piece(p.piece), receipt_of(p)));
        let first = u32::try_from(opened.claim.epoch.saturating_sub(1) * EPOCHS + 1).map_err(|e| broken(&e))?;
        let schedule = Schedule::new(specs.collect(), setup.limits, Epoch(first), done).map_err(|e| broken(&e))?;
        let persister = {
            let mailbox = mailbox.clone();
            let tell = move |persisted| {
                // The driver may have ended already: then the journal is all that counts.
                let _ = mailbox.send(Input::Persisted(persisted));
            };
            Persister::start(opened.state.clone(), journal, &opened.plan, &opened.tasks, tell)
        };
        let pieces: BTreeMap<(u32, u32), PieceRecord> = resumed.pieces.into_iter().collect();
        let survival = Survival::of(&opened.plan, &resumed.measured);
        let measured = resumed.measured.into_iter().map(|m| (m.value.id.0, m.value)).collect();
        let driver = Driver {
            schedule,
            started: Instant::now(),
            first: Epoch(first),
            sessions: BTreeMap::new(),
            names: Names::default(),
            persister,
            progress,
            notify,
            parts: Parts::found(&opened.tasks, &pieces),
            pieces,
            measured,
            survival,
            extra: None,
            checks: Checks::new(setup.limits.lease, setup.no_worker_timeout, Epoch(first)),
            seed: 0,
            verified: None,
            lost: None,
            failures: HashMap::new(),
            quarantine: Quarantine::new(setup.no_worker_timeout),
            mailbox,
            looking: HashMap::new(),
            setup,
            opened,
            odd: resumed.odd,
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
                if let Some(error) = self.quarantine.hopeless(now, self.sessions.keys())
                    && !self.checks.is_under_way()
                {
                    return Some(Err(error));
                }
            }
            Some(Input::Persisted(persisted)) => {
                for measured in persisted.measured {
                    self.survival.take(&measured);
                    self.measured.insert(measured.value.id.0, measured.value);
                    // Before the schedule hears of it: nothing that waits for it begins.
                    if let Err(lost) = measured.survival.map_or(Ok(()), |_| self.survival.check()) {
                        return Some(Err(lost));
                    }
                }
                for record in persisted.pieces {
                    let event = Event::Persisted { task: TaskId(record.task), piece: Piece(record.piece) };
                    let part = self.is_part(record.task);
                    if self.pieces.insert((record.task, record.piece), record).is_none() && part {
                        self.parts.new += 1;
                    }
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
            && self.odd.contains(&worker.0)
        {
            (self.notify)(Notice::Quarantined { worker: *worker });
            *slots = 0;
        }
        input
    }

    /// What an input means to the schedule, if anything.
    fn event(&mut self, input: Input) -> Option<Event> {
        match input {
            Input::Joined { worker, name, session, slots, outbound } => {
                self.names.note(worker, name);
                self.sessions.insert(worker, (session, outbound));
                Some(Event::WorkerJoined { worker, slots })
            }
            Input::Slots { worker, slots } => Some(Event::Slots { worker, slots }),
            Input::Beat { worker, mut running } => {
                running.retain(|(task, ..)| self.is_task(task.0));
                Some(Event::Heartbeat { worker, running })
            }
            Input::Left { worker } => {
                debug!(event = %MergeEvent::Left, merge = %self.setup.label, %worker, name = self.names.of(worker), "left");
                self.sessions.remove(&worker);
                Some(Event::Left { worker })
            }
            Input::Said { worker, message } => self.said(worker, message),
            Input::Cancel => Some(Event::Cancel),
            Input::Layers(reply) => {
                // The caller may have stopped waiting.
                let _ = reply.send(Some(self.layers()));
                None
            }
            Input::Persisted(_) | Input::Looked(..) => None,
        }
    }

    pub(super) fn step(&mut self, now: Duration, event: Event) -> Option<Result<()>> {
        let actions = self.schedule.step(now, event);
        actions.into_iter().find_map(|action| self.act(action))
    }

    /// Sends without waiting.
    pub(super) fn send(&mut self, worker: WorkerId, message: to_worker::Message) {
        let Some((session, outbound)) = self.sessions.get(&worker) else { return };
        if outbound.try_send(ToWorker::Message(message)).is_err() {
            (self.notify)(Notice::Cut { worker, session: *session });
            self.sessions.remove(&worker);
        }
    }

    pub(super) fn attempt(&self, task: TaskId, epoch: Epoch) -> Option<v1::Attempt> {
        Some(v1::Attempt { task: task.0, epoch: epoch.0, merge: self.setup.label.clone() })
    }
}

fn receipt_of(p: &PieceRecord) -> Receipt {
    Receipt { store_id: p.store_id.clone(), length: p.length, chaining: p.chaining.map(Into::into) }
}
