//! A worker that speaks to the hub as the service does, and works when it is told to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use shardfuse_coordinator::hub::{Handle, Session};
use shardfuse_coordinator::outbound::ToWorker;
use shardfuse_coordinator::schedule::WorkerId;
use shardfuse_proto::PROTOCOL_VERSION;
use shardfuse_proto::v1::{self, assign, from_worker, piece_done, to_worker};
use shardfuse_store::{ErrorKind, Location, PartSlot, Stores, UploadId, digest};
use tokio::sync::mpsc;

use crate::fixture::TIMEOUT;

/// A worker with an open session.
pub struct Worker {
    pub id: WorkerId,
    pub session: Session,
    /// What it shows when it connects again.
    pub secret: Vec<u8>,
    hub: Handle,
    stores: Arc<Stores>,
    inbound: mpsc::Receiver<ToWorker>,
    /// Assignments that it has not begun.
    pub held: VecDeque<v1::Assign>,
    pub revoked: Vec<v1::Attempt>,
    /// Attempt and piece.
    pub acked: Vec<(v1::Attempt, u32)>,
    pub stopped: bool,
    /// A bit of all that it computes is the other way round.
    pub flips: bool,
}

pub fn hello(id: u64, class: &str, slots: u32) -> v1::Hello {
    v1::Hello {
        protocol_version: PROTOCOL_VERSION,
        worker_id: id,
        name: format!("worker {id}"),
        device_class: class.to_owned(),
        memory_bytes: 1 << 30,
        slots,
        ..v1::Hello::default()
    }
}

impl Worker {
    pub async fn join(hub: &Handle, stores: &Arc<Stores>, id: u64, slots: u32) -> Worker {
        Self::of_class(hub, stores, id, "cpu", slots).await
    }

    pub async fn of_class(hub: &Handle, stores: &Arc<Stores>, id: u64, class: &str, slots: u32) -> Worker {
        Self::with_room(hub, stores, hello(id, class, slots), 1024).await
    }

    /// A worker whose session holds so many messages that it has not read.
    pub async fn with_room(hub: &Handle, stores: &Arc<Stores>, hello: v1::Hello, room: usize) -> Worker {
        let id = hello.worker_id;
        let (outbound, inbound) = mpsc::channel(room);
        let enrolment = hub.enrol(hello, None).unwrap();
        let secret = enrolment.secret();
        let session = hub.join(enrolment, outbound).await.unwrap();
        Worker {
            id: WorkerId(id),
            session,
            secret,
            hub: hub.clone(),
            stores: stores.clone(),
            inbound,
            held: VecDeque::new(),
            revoked: Vec::new(),
            acked: Vec::new(),
            stopped: false,
            flips: false,
        }
    }

    /// The same worker in another session.
    pub async fn again(&self, slots: u32) -> Worker {
        let hello = v1::Hello { secret: self.secret.clone(), ..hello(self.id.0, "cpu", slots) };
        Self::with_room(&self.hub, &self.stores, hello, 1024).await
    }

    /// Takes what has arrived.
    pub fn take(&mut self) {
        while let Ok(message) = self.inbound.try_recv() {
            self.note(message);
        }
    }

    fn note(&mut self, message: ToWorker) {
        let ToWorker::Message(message) = message else { panic!("the session is refused: {message:?}") };
        match message {
            to_worker::Message::Welcome(_) => {}
            to_worker::Message::Assign(assign) => self.held.push_back(assign),
            to_worker::Message::Ack(ack) => self.acked.push((ack.attempt.unwrap(), ack.piece)),
            to_worker::Message::Revoke(revoke) => {
                let attempt = revoke.attempt.unwrap();
                self.held.retain(|a| a.attempt.as_ref() != Some(&attempt));
                self.revoked.push(attempt);
            }
            to_worker::Message::Stop(_) => self.stopped = true,
            to_worker::Message::MoreTensors(_) => panic!("these assignments fit into one message"),
        }
    }

    /// Takes messages until a condition holds.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Worker) -> bool) {
        let waiting = async {
            while !holds(self) {
                let message = self.inbound.recv().await.unwrap_or_else(|| panic!("the session ended before {what}"));
                self.note(message);
            }
        };
        let ended = tokio::time::timeout(TIMEOUT, waiting).await;
        assert!(ended.is_ok(), "in vain: {what}; {} held, {} acked", self.held.len(), self.acked.len());
    }

    pub fn held_of(&self, merge: &str) -> usize {
        self.held.iter().filter(|a| a.attempt.as_ref().unwrap().merge.starts_with(merge)).count()
    }

    pub async fn say(&self, message: from_worker::Message) {
        assert!(self.hub.said(self.id, self.session.number, message).await);
    }

    pub async fn beat(&self) {
        let running = self.held.iter().filter_map(|a| a.attempt.clone()).collect();
        self.say(from_worker::Message::Heartbeat(v1::Heartbeat { running, ..Default::default() })).await;
    }

    /// Puts a part of an assignment, or only computes it if it is a check; the bytes depend on its place only.
    pub async fn put(&self, assign: &v1::Assign, part: u32) -> from_worker::Message {
        self.try_put(assign, part).await.expect("the upload is there")
    }

    /// The same; `None` if the upload was completed or dropped meanwhile.
    async fn try_put(&self, assign: &v1::Assign, part: u32) -> Option<from_worker::Message> {
        let Some(assign::Job::Fill(fill)) = &assign.job else { panic!("only parts are filled here") };
        let at: Location = fill.url.parse().unwrap();
        let found = fill.parts.iter().find(|found| found.number == part);
        let v1::Part { offset, length, .. } = *found.expect("a part of the assignment");
        let mut bytes: Vec<u8> = (0..length).map(|i| ((offset + i) % 251) as u8).collect();
        bytes[0] ^= u8::from(self.flips);
        let chaining = digest::chaining_value(&bytes, offset, fill.size).to_vec();
        let slot = PartSlot { number: part, offset };
        let upload = UploadId::new(&fill.upload);
        let store_id = match fill.check {
            true => String::new(),
            false => match self.stores.open(&at).put_part(&at, &upload, slot, bytes.into()).await {
                Err(e) if e.kind() == ErrorKind::NoSuchUpload => return None,
                put => put.unwrap().as_str().to_owned(),
            },
        };
        let receipt = v1::PartReceipt { store_id, length, chaining };
        Some(from_worker::Message::PieceDone(v1::PieceDone {
            attempt: assign.attempt.clone(),
            piece: part,
            result: Some(piece_done::Result::Part(receipt)),
            ..Default::default()
        }))
    }

    /// Does an assignment to its end. A worker that comes too late stops: its upload is gone, or the hub is.
    pub async fn work(&self, assign: &v1::Assign) {
        for part in parts(assign) {
            let done = self.try_put(assign, part).await;
            let ended = done.is_none();
            let report = done.unwrap_or_else(|| self.failure(assign, v1::ErrorKind::Stale, "parts_lost"));
            if !self.hub.said(self.id, self.session.number, report).await || ended {
                return;
            }
        }
    }

    pub async fn fail(&self, assign: &v1::Assign, kind: v1::ErrorKind, failure: &str) {
        self.say(self.failure(assign, kind, failure)).await;
    }

    fn failure(&self, assign: &v1::Assign, kind: v1::ErrorKind, failure: &str) -> from_worker::Message {
        from_worker::Message::TaskFailed(v1::TaskFailed {
            attempt: assign.attempt.clone(),
            kind: kind.into(),
            failure: failure.to_owned(),
            message: format!("worker {} cannot", self.id),
            hint: "look".into(),
        })
    }

    /// Does all that is assigned until the session ends; returns the worker with what it saw.
    pub async fn serve(mut self) -> Worker {
        let mut beat = tokio::time::interval(Duration::from_millis(200));
        loop {
            while let Some(assign) = self.held.pop_front() {
                self.work(&assign).await;
            }
            tokio::select! {
                message = self.inbound.recv() => match message {
                    Some(message) => self.note(message),
                    None => return self,
                },
                _ = self.session.closed.changed() => return self,
                _ = beat.tick() => self.beat().await,
            }
        }
    }
}

/// The parts of an assignment.
pub fn parts(assign: &v1::Assign) -> Vec<u32> {
    match &assign.job {
        Some(assign::Job::Fill(fill)) => fill.parts.iter().map(|part| part.number).collect(),
        _ => panic!("only parts are filled here"),
    }
}
