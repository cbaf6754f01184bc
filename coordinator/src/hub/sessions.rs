//! Workers: they join, report, and go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1::{self, from_worker, to_worker};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::actor::Hub;
use super::enrol::{Enrolment, Registration};
use super::{Session, WorkerView};
use crate::driver::Input;
use crate::schedule::{Effort, Epoch, TaskId, WorkerId};
use crate::service::ToWorker;

/// A worker as the hub holds it.
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) class: String,
    pub(super) slots: u32,
    /// When its number was registered.
    registration: Registration,
    memory: u64,
    pub(super) session: Option<Open>,
    pub(super) draining: bool,
    /// When it was last heard of.
    pub(super) heard: Instant,
    running: u32,
    bytes_put: u64,
    bytes_read: u64,
    memory_used: u64,
}

/// An open session. Dropping it closes it.
pub(super) struct Open {
    pub(super) number: u64,
    outbound: mpsc::Sender<ToWorker>,
    _open: watch::Sender<()>,
}

impl Worker {
    /// Whether it can take tasks.
    pub(super) fn is_able(&self, now: Instant, lease: Duration) -> bool {
        self.is_present(now, lease) && !self.draining
    }

    fn is_present(&self, now: Instant, lease: Duration) -> bool {
        self.session.is_some() && now.saturating_duration_since(self.heard) < lease
    }

    pub(super) fn view(&self, id: WorkerId, now: Instant, lease: Duration) -> WorkerView {
        WorkerView {
            id,
            name: self.name.clone(),
            device_class: self.class.clone(),
            slots: self.slots,
            memory: self.memory,
            present: self.is_present(now, lease),
            draining: self.draining,
            running: self.running,
            bytes_put: self.bytes_put,
            bytes_read: self.bytes_read,
            memory_used: self.memory_used,
        }
    }

    /// Tells it without waiting. One that does not read is not told: what it asks again is answered again.
    pub(super) fn tell(&self, message: to_worker::Message) {
        if let Some(open) = &self.session {
            let _ = open.outbound.try_send(Ok(v1::ToWorker { message: Some(message) }));
        }
    }
}

/// The device classes of which a worker could take a task now.
pub(super) fn able_classes(workers: &BTreeMap<WorkerId, Worker>, now: Instant, lease: Duration) -> BTreeSet<&str> {
    workers.values().filter(|w| w.is_able(now, lease)).map(|w| w.class.as_str()).collect()
}

fn taken(id: WorkerId) -> Error {
    Error::new(Kind::OutputBusy, format!("worker {id} has a session, and this one does not show its secret"))
        .hint("a worker takes a new number whenever it starts; if this is the same process, its number is free again two leases after it was last heard of")
}

fn effort(told: v1::Effort) -> Effort {
    Effort { read: told.bytes_read, fused: told.bytes_fused, put: told.bytes_put }
}

impl Hub {
    pub(super) async fn join(&mut self, who: Enrolment, outbound: mpsc::Sender<ToWorker>) -> Result<Session> {
        let id = WorkerId(who.hello.worker_id);
        let (hello, registration) = (&who.hello, who.registration);
        if let Some(there) = self.workers.get(&id) {
            if !who.beats(there.registration) {
                warn!(worker = %id, name = hello.name, taken_by = there.name, "a worker under another's number is refused");
                metrics::counter!("shardfuse_sessions_refused_total").increment(1);
                return Err(taken(id));
            }
            if there.registration != registration {
                warn!(worker = %id, name = hello.name, taken_by = there.name, "a worker has its number back");
                self.forget(id).await;
            } else if there.class != hello.device_class {
                self.forget(id).await;
            }
        }
        let hello = who.hello;
        let number = self.next();
        let (open, closed) = watch::channel(());
        info!(worker = %id, name = hello.name, class = hello.device_class, slots = hello.slots, "a worker joined");
        let before = self.workers.insert(
            id,
            Worker {
                name: hello.name,
                class: hello.device_class,
                slots: hello.slots,
                registration,
                memory: hello.memory_bytes,
                session: Some(Open { number, outbound, _open: open }),
                draining: false,
                heard: Instant::now(),
                running: 0,
                bytes_put: 0,
                bytes_read: 0,
                memory_used: 0,
            },
        );
        if before.is_some() {
            metrics::counter!("shardfuse_reconnects_total").increment(1);
        }
        self.introduce(id).await;
        self.start_queued();
        self.deal().await;
        Ok(Session { number, closed })
    }

    /// Tells the drivers of a worker's class that it is there.
    async fn introduce(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let Some(Open { number, outbound, .. }) = &worker.session else { return };
        let (session, outbound) = (*number, outbound.clone());
        for (arrival, inbox) in self.inboxes(&worker.class) {
            let slots = self.dealt.get(&(arrival, id)).copied().unwrap_or(0);
            let _ = inbox.send(Input::Joined { worker: id, session, slots, outbound: outbound.clone() }).await;
        }
    }

    /// Tells a driver that begins who is there.
    pub(super) async fn introduce_all(&mut self, class: &str, inbox: &mpsc::Sender<Input>) {
        let there: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, w)| w.class == class)
            .filter_map(|(id, w)| w.session.as_ref().map(|s| (*id, s.number, s.outbound.clone(), w.draining)))
            .collect();
        for (worker, session, outbound, draining) in there {
            let _ = inbox.send(Input::Joined { worker, session, slots: 0, outbound }).await;
            if draining {
                let message = from_worker::Message::Draining(v1::Draining {});
                let _ = inbox.send(Input::Said { worker, message }).await;
            }
        }
    }

    /// Takes what a worker said in its present session.
    pub(super) async fn said(&mut self, id: WorkerId, session: u64, message: from_worker::Message) {
        let now = Instant::now();
        let lease = self.options.limits.lease;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.session.as_ref().is_none_or(|open| open.number != session) {
            debug!(worker = %id, "a message of a session that was replaced is dropped");
            return;
        }
        let was_able = worker.is_able(now, lease);
        worker.heard = now;
        match message {
            from_worker::Message::Heartbeat(beat) => self.beat(id, beat).await,
            from_worker::Message::PieceDone(ref done) => {
                let attempt = done.attempt.clone();
                self.pass_on(id, attempt, message, true).await;
            }
            from_worker::Message::TaskFailed(ref failed) => {
                let attempt = failed.attempt.clone();
                self.pass_on(id, attempt, message, false).await;
            }
            from_worker::Message::Draining(_) => {
                info!(worker = %id, "a worker drains");
                worker.draining = true;
                let class = worker.class.clone();
                for (_, inbox) in self.inboxes(&class) {
                    let _ = inbox.send(Input::Said { worker: id, message: message.clone() }).await;
                }
                self.deal().await;
            }
            from_worker::Message::Hello(_) => debug!(worker = %id, "a second hello in a session is ignored"),
        }
        if !was_able {
            self.deal().await;
        }
    }

    /// Splits a heartbeat by merge: every driver that the worker could work for hears that it lives.
    async fn beat(&mut self, id: WorkerId, beat: v1::Heartbeat) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.running = u32::try_from(beat.running.len()).unwrap_or(u32::MAX);
        (worker.bytes_put, worker.bytes_read) = (beat.bytes_put, beat.bytes_read);
        worker.memory_used = beat.memory_used;
        let mut by_label: BTreeMap<String, Vec<(v1::Attempt, Effort)>> = BTreeMap::new();
        let efforts = beat.efforts.into_iter().map(effort).chain(std::iter::repeat(Effort::default()));
        for (attempt, effort) in beat.running.into_iter().zip(efforts) {
            by_label.entry(attempt.merge.clone()).or_default().push((attempt, effort));
        }
        let worker = &self.workers[&id];
        for merge in self.merges.values() {
            let Some(running) = merge.running().filter(|r| r.class == worker.class) else { continue };
            let attempts = by_label.get(&running.label).map(Vec::as_slice).unwrap_or_default();
            let ids = attempts.iter().map(|(a, effort)| (TaskId(a.task), Epoch(a.epoch), *effort)).collect();
            if running.inbox.send(Input::Beat { worker: id, running: ids }).await.is_ok() {
                by_label.remove(&running.label);
            }
        }
        for (attempt, _) in by_label.into_values().flatten() {
            worker.tell(to_worker::Message::Revoke(v1::Revoke { attempt: Some(attempt) }));
        }
    }

    /// Gives a report to the driver of its merge; one that holds a piece is answered also where there is none.
    async fn pass_on(
        &mut self,
        id: WorkerId,
        attempt: Option<v1::Attempt>,
        message: from_worker::Message,
        answer: bool,
    ) {
        let Some(attempt) = attempt else { return };
        let worker = &self.workers[&id];
        let merge = self.routes.get(&attempt.merge).and_then(|merge| self.merges.get(merge));
        let running = merge.and_then(|m| m.running()).filter(|r| r.class == worker.class);
        let taken = match running {
            Some(running) => running.inbox.send(Input::Said { worker: id, message }).await.is_ok(),
            None => false,
        };
        if !taken {
            metrics::counter!("shardfuse_reports_unknown_total").increment(1);
            if answer {
                worker.tell(to_worker::Message::Revoke(v1::Revoke { attempt: Some(attempt) }));
            }
        }
    }

    /// A worker ended its session in order.
    pub(super) async fn left(&mut self, id: WorkerId, session: u64) {
        if self.is_current(id, session) {
            info!(worker = %id, "a worker left");
            self.forget(id).await;
            self.deal().await;
        }
    }

    /// A session broke: its worker may come back before its leases end.
    pub(super) async fn broken(&mut self, id: WorkerId, session: u64) {
        if self.is_current(id, session) {
            info!(worker = %id, "a worker's session broke");
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.session = None;
            }
            self.deal().await;
        }
    }

    /// A session takes no more messages: it is closed, and the worker comes back with what is not acknowledged.
    pub(super) async fn cut(&mut self, id: WorkerId, session: u64) {
        if self.is_current(id, session) {
            info!(worker = %id, "a worker does not read; its session is closed");
            metrics::counter!("shardfuse_sessions_cut_total").increment(1);
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.session = None;
            }
            self.deal().await;
        }
    }

    fn is_current(&self, id: WorkerId, session: u64) -> bool {
        let open = self.workers.get(&id).and_then(|w| w.session.as_ref());
        open.is_some_and(|open| open.number == session)
    }

    /// Workers without a session that were not heard of for two leases: every schedule has given them up.
    pub(super) async fn forget_silent(&mut self, now: Instant) {
        let long = self.options.limits.lease.saturating_mul(2);
        let gone = |w: &Worker| w.session.is_none() && now.saturating_duration_since(w.heard) >= long;
        let ids: Vec<WorkerId> = self.workers.iter().filter(|(_, w)| gone(w)).map(|(id, _)| *id).collect();
        for id in ids {
            info!(worker = %id, "a worker did not come back");
            self.forget(id).await;
        }
    }

    async fn forget(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.remove(&id) else { return };
        for (_, inbox) in self.inboxes(&worker.class) {
            let _ = inbox.send(Input::Left { worker: id }).await;
        }
        self.dealt.retain(|(_, worker), _| *worker != id);
    }

    /// Where the drivers of a class take their inputs, by arrival of the merge.
    pub(super) fn inboxes(&self, class: &str) -> Vec<(u64, mpsc::Sender<Input>)> {
        let of_class = |r: &&super::merges::Running| r.class == class;
        let running = self.merges.values().filter_map(|m| m.running().filter(of_class).map(|r| (m.arrival, r)));
        running.map(|(arrival, r)| (arrival, r.inbox.clone())).collect()
    }
}
