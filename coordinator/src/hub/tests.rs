//! A merge whose driver takes nothing in does not hold up the others: the hub never waits for a driver.
//!
//! The merges are put into the hub as if they ran, and the tests play their drivers. So they also see what the hub shows of one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shardfuse_merge::DeviceClass;
use shardfuse_proto::v1::{self, from_worker, piece_done, to_worker};
use shardfuse_store::Stores;
use shardfuse_store::memory::Memory;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::actor::Hub;
use super::command::Session;
use super::enrol::SessionKey;
use super::handle::{Handle, spawn};
use super::merges::{Active, Merge, Phase, Running};
use super::options::Options;
use super::report::{Report, What};
use super::view::Stage;
use crate::driver::{Inbox, Input, Notice, Progress, mailbox};
use crate::outbound::ToWorker;
use crate::registry::record::spec;
use crate::registry::{Found, MergeId, Record};
use crate::schedule::WorkerId;

/// More reports than a driver's mailbox held when the hub still waited for room in it.
const MANY: u32 = 10_000;
/// When a test gives up. It waits for nothing but answers.
const LIMIT: Duration = Duration::from_secs(60);

/// A hub with two merges that run.
struct Scene {
    hub: Handle,
    /// Nobody reads it.
    blocked: Inbox,
    served: Inbox,
}

const BLOCKED: &str = "blocked";
const SERVED: &str = "served";

impl Scene {
    fn new() -> Scene {
        let stores = Arc::new(Stores::all(Arc::new(Memory::new())));
        let mut hub = Hub::new(stores, None, Options::default(), Found::default());
        let (blocked, served) = (running(&mut hub, BLOCKED), running(&mut hub, SERVED));
        Scene { hub: spawn(hub, SessionKey::random().unwrap(), None), blocked, served }
    }

    async fn join(&self, id: u64, secret: Vec<u8>) -> Worker {
        let hello = v1::Hello { worker_id: id, device_class: "cpu".into(), slots: 4, secret, ..v1::Hello::default() };
        let enrolment = self.hub.enrol(hello, None).unwrap();
        let (outbound, inbound) = mpsc::channel(16);
        let secret = enrolment.secret();
        let session = self.hub.join(enrolment, outbound).await.unwrap();
        Worker { hub: self.hub.clone(), id: WorkerId(id), secret, session, inbound }
    }
}

/// Puts a merge into a hub as one that runs; returns what its driver would read.
fn running(hub: &mut Hub, label: &str) -> Inbox {
    let record = Record::new(spec(&format!("s3://b/{label}")), "cpu", 0, 1);
    let id = MergeId::of(&record.spec);
    let arrival = hub.next();
    let mut merge = Merge::new(&id, record, arrival);
    let (mailbox, inbox) = mailbox();
    let progress = Progress { demand: 2, ..Progress::default() };
    let running = Running {
        label: label.to_owned(),
        class: DeviceClass::Cpu,
        mailbox,
        progress: watch::channel(progress).1,
        barred: BTreeSet::new(),
    };
    merge.phase = Phase::Active(Box::new(Active {
        halt: watch::Sender::new(None),
        since: Instant::now(),
        running: Some(running),
        publishing: false,
    }));
    hub.routes.insert(label.to_owned(), id.clone());
    hub.merges.insert(id, merge);
    inbox
}

struct Worker {
    hub: Handle,
    id: WorkerId,
    secret: Vec<u8>,
    session: Session,
    inbound: mpsc::Receiver<ToWorker>,
}

fn attempt(merge: &str) -> v1::Attempt {
    v1::Attempt { merge: merge.to_owned(), task: 3, epoch: 1 }
}

impl Worker {
    /// Reports a piece, with sums of `bytes` bytes.
    async fn report(&self, merge: &str, piece: u32, bytes: usize) {
        let result = Some(piece_done::Result::Sums(vec![0; bytes]));
        let done = v1::PieceDone { attempt: Some(attempt(merge)), piece, result, ..v1::PieceDone::default() };
        assert!(self.hub.said(self.id, self.session.number, from_worker::Message::PieceDone(done)).await);
    }

    async fn reads(&mut self) -> to_worker::Message {
        match self.inbound.recv().await {
            Some(ToWorker::Message(message)) => message,
            other => panic!("the session ended: {other:?}"),
        }
    }
}

/// Waits for a worker's join, and returns where its messages go.
async fn joined(inbox: &mut Inbox, id: WorkerId) -> mpsc::Sender<ToWorker> {
    loop {
        if let Input::Joined { worker, outbound, .. } = inbox.recv().await
            && worker == id
        {
            return outbound;
        }
    }
}

/// Waits for a worker's report of a piece.
async fn reported(inbox: &mut Inbox, id: WorkerId, piece: u32) {
    loop {
        if let Input::Said { worker, message: from_worker::Message::PieceDone(done) } = inbox.recv().await {
            assert_eq!((worker, done.piece), (id, piece));
            return;
        }
    }
}

/// A task of the served merge, from its assignment to its acknowledgement.
async fn serves(served: &mut Inbox, worker: &mut Worker, piece: u32) {
    let outbound = joined(served, worker.id).await;
    let assign = v1::Assign { attempt: Some(attempt(SERVED)), ..v1::Assign::default() };
    outbound.try_send(ToWorker::Message(to_worker::Message::Assign(assign))).unwrap();
    assert!(matches!(worker.reads().await, to_worker::Message::Assign(_)));
    worker.report(SERVED, piece, 8).await;
    reported(served, worker.id, piece).await;
    let ack = v1::Ack { attempt: Some(attempt(SERVED)), piece };
    outbound.try_send(ToWorker::Message(to_worker::Message::Ack(ack))).unwrap();
    assert!(matches!(worker.reads().await, to_worker::Message::Ack(_)));
}

async fn within(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test).await.expect("the hub waits for a driver");
}

#[tokio::test]
async fn a_driver_that_reads_nothing_stops_neither_the_sessions_nor_the_merges_of_others() {
    let test = async {
        let mut scene = Scene::new();
        let slow = scene.join(1, Vec::new()).await;
        for piece in 0..MANY {
            slow.report(BLOCKED, piece, 8).await;
        }
        // Another worker joins, works and leaves, and the one that has so much to say works for the other merge too.
        let mut other = scene.join(2, Vec::new()).await;
        serves(&mut scene.served, &mut other, 7).await;
        scene.hub.left(other.id, other.session.number).await;
        slow.report(SERVED, 8, 8).await;
        reported(&mut scene.served, slow.id, 8).await;
        assert_eq!(scene.hub.workers().await.unwrap().len(), 1);

        // Nothing was lost: when the driver reads again, it hears everything in its order.
        let mut heard = 0;
        while let Some(input) = scene.blocked.try_recv() {
            if let Input::Said { message: from_worker::Message::PieceDone(done), .. } = input {
                assert_eq!(done.piece, heard);
                heard += 1;
            }
        }
        assert_eq!(heard, MANY);
        assert!(slow.session.closed.has_changed().is_ok(), "its session is open");
    };
    within(test).await;
}

#[tokio::test]
async fn a_worker_whose_reports_exceed_what_may_wait_is_closed_and_comes_back_and_others_go_on() {
    let test = async {
        let mut scene = Scene::new();
        let mut loud = scene.join(1, Vec::new()).await;
        let mut quiet = scene.join(2, Vec::new()).await;
        quiet.report(BLOCKED, 1, 8).await;
        for piece in 0..70 {
            loud.report(BLOCKED, piece, 1 << 20).await;
        }
        loud.session.closed.changed().await.unwrap_err();
        serves(&mut scene.served, &mut quiet, 7).await;

        let again = scene.join(1, loud.secret.clone()).await;
        again.report(BLOCKED, 0, 8).await;
        scene.hub.census().await.unwrap();
        let mut heard = Vec::new();
        while let Some(input) = scene.blocked.try_recv() {
            match input {
                Input::Said { worker, message: from_worker::Message::PieceDone(done) } => {
                    heard.push(format!("{worker} made {}", done.piece));
                }
                Input::Joined { worker, .. } => heard.push(format!("{worker} joined")),
                Input::Left { worker } => heard.push(format!("{worker} left")),
                _ => {}
            }
        }
        // What the loud one had said before it was closed is gone with its attempts; it says it again.
        assert_eq!(heard, ["2 joined", "2 made 1", "1 left", "1 joined", "1 made 0"]);
    };
    within(test).await;
}

/// The clock stands: the hub shows nothing because time passes.
#[tokio::test(start_paused = true)]
async fn a_merge_that_is_published_is_shown_with_what_was_done_by_then() {
    let stores = Arc::new(Stores::all(Arc::new(Memory::new())));
    let mut hub = Hub::new(stores, None, Options::default(), Found::default());
    let _inbox = running(&mut hub, SERVED);
    let (counts, shown) = watch::channel(Progress { tasks_done: 1, tasks_total: 3, ..Progress::default() });
    let (id, merge) = hub.merges.iter_mut().next().unwrap();
    merge.running_mut().unwrap().progress = shown;
    let (id, run, reports) = (id.clone(), merge.run, hub.reports.clone());
    let hub = spawn(hub, SessionKey::random().unwrap(), None);
    let test = async {
        let mut view = hub.get(id.clone()).await.unwrap().unwrap();
        view.wait_for(|view| view.progress.tasks_done == 1).await.unwrap();
        counts.send_modify(|counts| counts.tasks_done = 3);
        reports.send(Report { merge: id.clone(), run, what: What::Notice(Notice::Publishing) }).unwrap();
        let view = view.wait_for(|view| view.stage == Stage::Publishing).await.unwrap();
        assert_eq!(view.progress.tasks_done, 3);
    };
    within(test).await;
}
