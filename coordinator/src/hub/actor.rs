//! The one task that owns workers and merges.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use shardfuse_merge::{Kind, Result};
use shardfuse_proto::v1::{self, to_worker};
use shardfuse_store::Stores;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, info, warn};

use super::clock::clock;
use super::command::{Command, Farewell, stopped};
use super::merges::{Merge, Phase, Running};
use super::options::Options;
use super::report::{End, Halt, Report, What};
use super::saving::Waiter;
use super::share::Shares;
use super::stream::Stream;
use super::totals;
use super::worker::{Closing, KnownWorker};
use crate::driver::{Input, Notice};
use crate::happening::{Happening, Happenings};
use crate::registry::{Ended, Found, MergeId, Outcome, Registry};
use crate::schedule::WorkerId;

/// How often slots are shared and progress is shown.
const TICK: Duration = Duration::from_millis(500);

/// The hub.
pub(super) struct Hub {
    pub(super) stores: Arc<Stores>,
    pub(super) registry: Option<Registry>,
    pub(super) options: Options,
    pub(super) workers: BTreeMap<WorkerId, KnownWorker>,
    pub(super) merges: BTreeMap<MergeId, Merge>,
    /// The running merges by the name that attempts carry.
    pub(super) routes: HashMap<String, MergeId>,
    pub(super) shares: Shares,
    /// What happened to workers.
    pub(super) happenings: Happenings,
    pub(super) stream: Stream,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) tasks: JoinSet<()>,
    pub(super) stopping: Option<Stopping>,
    inbound: mpsc::UnboundedReceiver<Report>,
    counter: u64,
}

/// A hub that takes nothing new.
pub(super) struct Stopping {
    farewell: Farewell,
    until: Instant,
    waiters: Vec<oneshot::Sender<()>>,
}

impl Hub {
    pub(super) fn new(stores: Arc<Stores>, registry: Option<Registry>, options: Options, known: Found) -> Hub {
        let (reports, inbound) = mpsc::unbounded_channel();
        let mut hub = Hub {
            stores,
            registry,
            options,
            workers: BTreeMap::new(),
            merges: BTreeMap::new(),
            routes: HashMap::new(),
            shares: Shares::new(),
            happenings: Happenings::default(),
            stream: Stream::default(),
            reports,
            tasks: JoinSet::new(),
            stopping: None,
            inbound,
            counter: 0,
        };
        for (id, record) in known.merges {
            hub.take_up(id, record);
        }
        hub.read_again(known.unread);
        hub
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.start_queued();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    // Nobody is left to speak to; what runs is broken off, as by a kill.
                    None => return,
                },
                Some(report) = self.inbound.recv() => self.report(report),
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
                _ = tick.tick() => self.tick(),
            }
            if self.has_stopped() {
                return self.end();
            }
        }
    }

    fn command(&mut self, command: Command) {
        // A caller may have stopped waiting for its answer.
        match command {
            Command::Submit(submission, follower, reply) => self.submit(*submission, follower, reply),
            Command::Named(text, reply) => _ = reply.send(self.named(&text)),
            Command::Get(id, reply) => _ = reply.send(self.merges.get(&id).map(Merge::watch)),
            Command::List(after, limit, reply) => _ = reply.send(self.list(after, limit)),
            Command::Workers(reply) => {
                let (now, lease) = (Instant::now(), self.options.limits.lease);
                _ = reply.send(self.workers.iter().map(|(id, w)| w.view(*id, now, lease)).collect());
            }
            Command::Happenings(of, reply) => _ = reply.send(self.happenings(of.as_ref())),
            Command::Stream(id, after, reply) => _ = reply.send(self.stream.of(&id, after)),
            Command::Census(reply) => _ = reply.send(self.census()),
            Command::Layers(id, reply) => {
                // A driver that has ended, or was asked too often, drops the question, which answers it.
                if let Some(running) = self.merges.get_mut(&id).and_then(Merge::running_mut) {
                    let _ = running.mailbox.send(Input::Layers(reply));
                } else {
                    let _ = reply.send(None);
                }
            }
            Command::Cancel(id, discard, reply) => self.cancel(&id, discard, reply),
            Command::Retry(id, reply) => self.retry(&id, reply),
            Command::Join(enrolment, outbound, reply) => {
                let session = self.join(enrolment, outbound);
                _ = reply.send(session);
            }
            Command::Said(worker, session, message) => self.said(worker, session, message),
            Command::Left(worker, session) => self.left(worker, session),
            Command::Broken(worker, session) => self.close(worker, session, Closing::Broken),
            Command::Stop(farewell, reply) => self.stop(farewell, reply),
        }
    }

    fn report(&mut self, Report { merge: id, run, what }: Report) {
        let what = match what {
            What::Saved { version, result } => return self.saved(&id, version, result),
            What::Found(record) => return self.found_late(id, *record),
            what => what,
        };
        let Some(merge) = self.merges.get_mut(&id).filter(|m| m.run == run) else { return };
        match what {
            What::Saved { .. } | What::Found(_) => {}
            What::Planned { plan, remarks, report } => {
                info!(merge = %id, changed = report.tensors_changed, copied = report.tensors_copied, "planned");
                let (changed, copied) = (report.tensors_changed, report.tensors_copied);
                merge
                    .happenings
                    .add(Happening::step(clock(), format!("planned: {changed} tensors change, {copied} are copied")));
                merge.plan = Some(plan);
                merge.remarks = remarks;
                if let Some(planned) = merge.follower.as_mut().and_then(|f| f.planned.take()) {
                    // The caller may have stopped waiting.
                    let _ = planned.send(report);
                }
            }
            What::Admitted { noted } => {
                (merge.record.restart, merge.record.force) = (false, false);
                merge.record.planned();
                self.save(&id, Some(Waiter::Noted(noted)));
            }
            What::Running { label, class, mailbox, progress, trace } => {
                let kept = progress.borrow().parts_kept;
                let kept = if kept > 0 { format!("; {kept} parts of an earlier run are kept") } else { String::new() };
                merge.happenings.add(Happening::step(clock(), format!("work can begin on {class}{kept}")));
                merge.trace = trace;
                info!(merge = %id, %class, bytes = progress.borrow().output_bytes, "began");
                merge.device_class = Some(class.clone());
                if let Phase::Active(active) = &mut merge.phase {
                    active.publishing = false;
                    active.running = Some(Running {
                        label: label.clone(),
                        class: class.clone(),
                        mailbox: mailbox.clone(),
                        progress,
                        barred: Default::default(),
                    });
                }
                // It may have run before and lost parts: that driver's reports and slots are no more.
                let arrival = merge.arrival;
                self.shares.retain(|(of, _), _| *of != arrival);
                self.unroute(&id);
                self.routes.insert(label, id.clone());
                self.introduce_all(&class, &mailbox);
                self.share_slots();
            }
            What::Notice(Notice::Quarantined { worker }) => {
                if let Some(running) = merge.running_mut() {
                    running.barred.insert(worker);
                }
                self.share_slots();
            }
            What::Notice(Notice::Cut { worker, session }) => self.close(worker, session, Closing::Unread),
            What::Notice(Notice::Happened { worker, fault, text, hint }) => {
                let what = Happening { fault, ..Happening::step(clock(), text) }.hint(hint.as_deref());
                return self.happened(&id, worker, what);
            }
            What::Notice(Notice::Publishing) => {
                merge.happenings.add(Happening::step(clock(), "every part is there; the output is published"));
                if let Phase::Active(active) = &mut merge.phase {
                    active.publishing = true;
                }
                self.unroute(&id);
                self.share_slots();
            }
            What::Ended(end) => {
                self.ended(&id, end);
                self.start_queued();
                self.share_slots();
            }
        }
        if let Some(merge) = self.merges.get_mut(&id) {
            merge.refresh();
        }
    }

    /// A merge takes no reports any more.
    fn unroute(&mut self, id: &MergeId) {
        self.routes.retain(|_, merge| merge != id);
    }

    fn ended(&mut self, id: &MergeId, end: End) {
        self.unroute(id);
        let at = clock();
        let what = match &end {
            End::Done(_) => Happening::step(at, "done"),
            End::Failed(e) => Happening::failure(at, "failed", e),
            End::Cancelled(_) => Happening::step(at, "cancelled"),
            End::Paused(_) => Happening::step(at, "it waits for the next coordinator"),
        };
        self.fault_of_merge(id, &what);
        let Some(merge) = self.merges.get_mut(id) else { return };
        merge.happenings.add(what);
        if let Some(running) = merge.running_mut() {
            let progress = running.progress.borrow().clone();
            merge.progress = progress;
            merge.progress.tasks_running = 0;
        }
        let was_running = merge.running_mut().is_some();
        let was_marked = merge.record.planning.is_some();
        merge.record.planned();
        let outcome = match &end {
            End::Done(_) => Some(Outcome::Done),
            End::Failed(e) => Some(Outcome::failed(e)),
            End::Cancelled(_) => Some(Outcome::Cancelled),
            End::Paused(_) => None,
        };
        metrics::counter!("shardfuse_merges_ended_total", "outcome" => match &end {
            End::Done(_) => "done",
            End::Failed(_) => "failed",
            End::Cancelled(_) => "cancelled",
            End::Paused(_) => "paused",
        })
        .increment(1);
        let seconds = at.saturating_sub(merge.record.submitted) / 1000;
        let (bytes, workers) = (merge.progress.bytes_done, merge.progress.workers);
        match &end {
            // The caller that follows it reports the failure.
            End::Failed(e) if merge.follower.is_some() => debug!(merge = %id, error = %e, "the merge failed"),
            End::Failed(e) => {
                warn!(merge = %id, seconds, bytes, kind = %e.kind(), error = %e, hint = e.advice(), "failed")
            }
            End::Done(_) => info!(merge = %id, seconds, bytes, workers, "done"),
            End::Cancelled(_) => info!(merge = %id, seconds, bytes, "cancelled"),
            End::Paused(_) => info!(merge = %id, "the merge waits for the next coordinator"),
        }
        match outcome {
            None => {
                merge.phase = Phase::Queued;
                if was_marked {
                    self.save(id, None);
                }
            }
            Some(outcome) => {
                let (plan, device_class) = (merge.plan.clone(), merge.device_class.clone());
                let ended =
                    Ended { at, outcome, plan, device_class, totals: totals::kept(&merge.progress).map(Box::new) };
                merge.phase = Phase::Ended(ended.clone());
                // One that another coordinator took over has not ended: that one says how it ends.
                let taken_over = was_running && matches!(&end, End::Failed(e) if e.kind() == Kind::OutputBusy);
                if !taken_over {
                    merge.record.ended = Some(ended);
                    self.save(id, None);
                }
            }
        }
        if let Some(merge) = self.merges.get_mut(id) {
            merge.tell_end(match end {
                End::Done(summary) => Ok(summary),
                End::Failed(e) | End::Cancelled(e) | End::Paused(e) => Err(e),
            });
        }
    }

    /// Ended merges beyond what is remembered go, the oldest first.
    fn forget_ended(&mut self) {
        let mut ended: Vec<(u64, MergeId)> = self
            .merges
            .iter()
            .filter_map(|(id, m)| match &m.phase {
                Phase::Ended(e) if m.saving.is_written() => Some((e.at, id.clone())),
                _ => None,
            })
            .collect();
        ended.sort();
        let over = ended.len().saturating_sub(self.options.max_ended);
        for (_, id) in ended.into_iter().take(over) {
            self.merges.remove(&id);
            if let Some(registry) = self.registry.clone() {
                self.tasks.spawn(async move {
                    if let Err(e) = registry.delete(&id).await {
                        warn!(merge = %id, error = %e, "the record of an old merge cannot be removed");
                    }
                });
            }
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.forget_silent(now);
        self.share_slots();
        self.note_waiting(now);
        self.merges.values_mut().for_each(Merge::refresh);
        let unsaved: Vec<MergeId> =
            self.merges.iter().filter(|(_, m)| !m.saving.is_written()).map(|(id, _)| id.clone()).collect();
        for id in unsaved {
            self.write(&id);
        }
        self.forget_ended();
        self.start_queued();
    }

    fn stop(&mut self, farewell: Farewell, reply: oneshot::Sender<()>) {
        let until = Instant::now() + self.options.grace;
        for merge in self.merges.values() {
            if let Phase::Active(active) = &merge.phase {
                active.halt.send_if_modified(|halt| {
                    let change = halt.is_none();
                    halt.get_or_insert(Halt::Pause);
                    change
                });
            }
        }
        let stopping = self.stopping.get_or_insert(Stopping { farewell, until, waiters: Vec::new() });
        stopping.waiters.push(reply);
    }

    /// Whether everything that ran is journaled and noted, or the time for that is over.
    fn has_stopped(&self) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        let busy = self.merges.values().any(|m| matches!(m.phase, Phase::Active(_)) || !m.saving.is_written());
        !busy || Instant::now() >= stopping.until
    }

    fn end(mut self) {
        let Some(stopping) = self.stopping.take() else { return };
        if let Farewell::Leave(reason) = &stopping.farewell {
            for worker in self.workers.values() {
                worker.tell(to_worker::Message::Stop(v1::Stop { reason: reason.clone() }));
            }
        }
        // The sessions end with what is in their queues.
        self.workers.clear();
        for waiter in stopping.waiters {
            let _ = waiter.send(());
        }
    }

    /// A number that was not used yet.
    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(super) fn refuse_if_stopping(&self) -> Result<()> {
        match self.stopping {
            Some(_) => Err(stopped()),
            None => Ok(()),
        }
    }
}
