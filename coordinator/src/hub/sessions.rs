//! Workers: they join, report, and go.

use std::collections::BTreeMap;

use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1::{self, from_worker, to_worker};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::actor::Hub;
use super::clock::clock;
use super::command::Session;
use super::enrol::Enrolment;
use super::worker::{Closing, KnownWorker, Open};
use crate::driver::Input;
use crate::happening::Happening;
use crate::outbound::ToWorker;
use crate::schedule::{Effort, Epoch, TaskId, WorkerId};

fn taken(id: WorkerId) -> Error {
    Error::new(Kind::OutputBusy, format!("worker {id} has a session, and this one does not show its secret"))
        .hint("a worker takes a new number whenever it starts; if this is the same process, its number is free again two leases after it was last heard of")
}

fn effort(told: v1::Effort) -> Effort {
    Effort { read: told.bytes_read, fused: told.bytes_fused, put: told.bytes_put }
}

impl Hub {
    pub(super) fn join(&mut self, who: Enrolment, outbound: mpsc::Sender<ToWorker>) -> Result<Session> {
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
                self.forget(id);
            } else if there.class != who.class {
                self.forget(id);
            }
        }
        let (hello, class) = (who.hello, who.class);
        let number = self.next();
        let (open, closed) = watch::channel(());
        let what = if self.workers.contains_key(&id) { "a worker reconnected" } else { "a worker joined" };
        info!(worker = %id, name = hello.name, %class, slots = hello.slots, "{what}");
        let joined = format!("{what}: {class}, {} slots", hello.slots);
        self.happened_to(id, &hello.name, &class, Happening::step(clock(), joined));
        let before = self.workers.insert(
            id,
            KnownWorker {
                name: hello.name,
                class,
                slots: hello.slots,
                registration,
                memory: hello.memory_bytes,
                session: Some(Open { number, outbound, _open: open }),
                draining: false,
                heard: Instant::now(),
                running: 0,
                told: false,
                bytes_put: 0,
                bytes_read: 0,
                memory_used: 0,
                stages: v1::Stages::default(),
            },
        );
        if before.is_some() {
            metrics::counter!("shardfuse_reconnects_total").increment(1);
        }
        self.introduce(id);
        self.start_queued();
        self.share_slots();
        Ok(Session { number, closed })
    }

    /// Takes what a worker said in its present session.
    pub(super) fn said(&mut self, id: WorkerId, session: u64, message: from_worker::Message) {
        let now = Instant::now();
        let lease = self.options.limits.lease;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.session.as_ref().is_none_or(|open| open.number != session) {
            debug!(worker = %id, name = worker.name, "a message of a session that was replaced is dropped");
            return;
        }
        let was_able = worker.is_able(now, lease);
        worker.heard = now;
        match message {
            from_worker::Message::Heartbeat(beat) => self.beat(id, beat),
            from_worker::Message::PieceDone(ref done) => {
                let merge = done.attempt.as_ref().and_then(|attempt| self.routes.get(&attempt.merge));
                if let Some(merge) = merge {
                    self.stream.note(clock(), merge.clone(), &worker.name, done);
                }
                let attempt = done.attempt.clone();
                self.pass_on(id, attempt, message, true);
            }
            from_worker::Message::TaskFailed(ref failed) => {
                let attempt = failed.attempt.clone();
                self.pass_on(id, attempt, message, false);
            }
            from_worker::Message::Draining(_) => {
                info!(worker = %id, name = worker.name, "a worker drains");
                worker.draining = true;
                let (name, class) = (worker.name.clone(), worker.class.clone());
                self.happened_to(id, &name, &class, Happening::step(clock(), "it drains: it takes nothing new"));
                self.tell_drivers(id, || Input::Said { worker: id, message: message.clone() });
                self.share_slots();
            }
            from_worker::Message::Hello(_) => {
                debug!(worker = %id, name = worker.name, "a second hello in a session is ignored")
            }
        }
        if !was_able {
            self.share_slots();
        }
    }

    /// Splits a heartbeat by merge: every driver that the worker could work for hears that it lives.
    fn beat(&mut self, id: WorkerId, beat: v1::Heartbeat) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.running = u32::try_from(beat.running.len()).unwrap_or(u32::MAX);
        worker.told = true;
        (worker.bytes_put, worker.bytes_read) = (beat.bytes_put, beat.bytes_read);
        worker.memory_used = beat.memory_used;
        worker.stages = beat.stages.unwrap_or_default();
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
            if running.mailbox.send(Input::Beat { worker: id, running: ids }).is_ok() {
                by_label.remove(&running.label);
            }
        }
        for (attempt, _) in by_label.into_values().flatten() {
            worker.tell(to_worker::Message::Revoke(v1::Revoke { attempt: Some(attempt) }));
        }
    }

    /// A worker ended its session in order.
    pub(super) fn left(&mut self, id: WorkerId, session: u64) {
        if self.is_current(id, session) {
            info!(worker = %id, name = self.name_of(id), "a worker left");
            self.lost(id, Happening::step(clock(), "it left in order"));
            self.forget(id);
            self.share_slots();
        }
    }

    /// Closes a session. Its worker may come back before its leases end, with what is not acknowledged.
    pub(super) fn close(&mut self, id: WorkerId, session: u64, why: Closing) {
        if !self.is_current(id, session) {
            return;
        }
        let name = self.name_of(id);
        match why {
            Closing::Broken => info!(worker = %id, name, "a worker's session broke"),
            Closing::Unread => {
                info!(worker = %id, name, "a worker does not read; its session is closed");
                metrics::counter!("shardfuse_sessions_cut_total").increment(1);
            }
            Closing::Overrun => {
                warn!(worker = %id, name, "a worker reports more than a merge can take in; its session is closed");
                metrics::counter!("shardfuse_sessions_cut_total").increment(1);
            }
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.session = None;
        }
        let (what, hint) = why.words();
        self.lost(id, Happening::fault(clock(), what).hint(Some(hint)));
        self.share_slots();
    }

    /// Tells people of a worker that is not there any more.
    fn lost(&mut self, id: WorkerId, what: Happening) {
        let Some(worker) = self.workers.get(&id) else { return };
        let (name, class) = (worker.name.clone(), worker.class.clone());
        self.happened_to(id, &name, &class, what);
    }

    /// The name of a worker, for the log.
    fn name_of(&self, id: WorkerId) -> Option<&str> {
        self.workers.get(&id).map(|worker| worker.name.as_str())
    }

    fn is_current(&self, id: WorkerId, session: u64) -> bool {
        let open = self.workers.get(&id).and_then(|w| w.session.as_ref());
        open.is_some_and(|open| open.number == session)
    }

    /// Workers without a session that were not heard of for two leases: every schedule has given them up.
    pub(super) fn forget_silent(&mut self, now: Instant) {
        let long = self.options.limits.lease.saturating_mul(2);
        let gone = |w: &KnownWorker| w.session.is_none() && now.saturating_duration_since(w.heard) >= long;
        let ids: Vec<WorkerId> = self.workers.iter().filter(|(_, w)| gone(w)).map(|(id, _)| *id).collect();
        for id in ids {
            info!(worker = %id, name = self.name_of(id), "a worker did not come back");
            self.lost(id, Happening::fault(clock(), "it did not come back, and is forgotten"));
            self.forget(id);
        }
    }

    fn forget(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.remove(&id) else { return };
        for (_, mailbox) in self.mailboxes(&worker.class) {
            // What a worker that leaves had in excess is replaced by its leave.
            let _ = mailbox.send(Input::Left { worker: id });
        }
        self.shares.retain(|(_, worker), _| *worker != id);
    }
}
