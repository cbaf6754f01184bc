//! Receipts that no store could have given, and workers that use another's number.

use shardfuse_coordinator::hub::{Handle, Options, Stage};
use shardfuse_coordinator::schedule::Limits;
use shardfuse_merge::Kind;
use shardfuse_proto::v1::{self, from_worker, piece_done};
use shardfuse_store::digest;
use tokio::sync::mpsc;

use crate::fixture::{Fixture, until, wait_for};
use crate::worker::{Worker, hello, parts};

/// What a receipt is turned into, and what is wrong with it.
type Forgery = (&'static str, fn(&mut v1::PieceDone));

fn part(done: &mut v1::PieceDone) -> &mut v1::PartReceipt {
    match &mut done.result {
        Some(piece_done::Result::Part(part)) => part,
        _ => panic!("only parts are filled here"),
    }
}

/// Every way in which a receipt of a part can be ill-formed, on local files.
const FORGERIES: [Forgery; 14] = [
    ("no result", |done| done.result = None),
    ("sums instead of a part", |done| done.result = Some(piece_done::Result::Sums(vec![0; 8]))),
    ("a part of another task", |done| done.piece += 1000),
    ("the last part that can be written", |done| done.piece = u32::MAX),
    ("an empty part", |done| part(done).length = 0),
    ("a part that is longer", |done| part(done).length += 1),
    ("a part without an end", |done| part(done).length = u64::MAX),
    ("no digest", |done| part(done).chaining.clear()),
    ("a digest that is longer", |done| part(done).chaining.push(0)),
    ("no id", |done| part(done).store_id.clear()),
    ("the id of another store", |done| part(done).store_id = "1024.\"0123456789abcdef0123456789abcdef\"".into()),
    ("the id of another place", |done| part(done).store_id = "1+1024".into()),
    ("an id that only reads the same", |done| part(done).store_id.insert(0, '0')),
    ("an endless id", |done| part(done).store_id = "0".repeat(1 << 20)),
];

#[tokio::test]
async fn an_ill_formed_receipt_is_refused_when_it_arrives_and_costs_its_worker_a_strike() {
    let fixture = Fixture::new();
    let limits = Limits { worker_strikes: 1, ..Limits::default() };
    let (hub, merge) = fixture.running(Options { limits, ..Options::default() }).await;
    let retries = async || hub.get(merge.clone()).await.unwrap().unwrap().borrow().progress.retries_by;
    let mut forgers = Vec::new();
    for (id, (what, forge)) in (1..).zip(FORGERIES) {
        let mut forger = Worker::join(&hub, &fixture.stores, id, 1).await;
        forger.until("an assignment", |w| !w.held.is_empty()).await;
        let assign = forger.held.pop_front().unwrap();
        let mut message = forger.put(&assign, parts(&assign)[0]).await;
        let from_worker::Message::PieceDone(done) = &mut message else { panic!("it is a receipt") };
        forge(done);
        forger.say(message).await;
        // It is quarantined: what it had goes to the next forger, so that each one has something to forge.
        until(what, async || {
            let view = hub.get(merge.clone()).await.unwrap().unwrap().borrow().clone();
            assert_eq!((view.progress.parts_new, view.stage), (0, Stage::Running), "{what}: {view:?}");
            view.progress.tasks_running == 0
        })
        .await;
        forgers.push(forger);
    }
    let honest = tokio::spawn(Worker::join(&hub, &fixture.stores, 99, 2).await.serve());
    let view = wait_for(&hub, &merge, Stage::Done).await;
    assert_eq!(view.stage, Stage::Done, "{view:?}");
    let local = retries().await.iter().find(|(kind, _)| *kind == "worker_local").unwrap().1;
    assert!(local >= 1, "what the forgers had was made again: {view:?}");
    honest.abort();
    // The file is what the honest worker wrote, and the manifest says so.
    let bytes = std::fs::read(fixture.path("out/model.safetensors")).unwrap();
    let digest = blake3_of(&bytes);
    let manifest = std::fs::read_to_string(fixture.path("out/shardfuse.json")).unwrap();
    assert!(manifest.contains(&digest), "{digest} is not in {manifest}");
}

fn blake3_of(bytes: &[u8]) -> String {
    let value = digest::chaining_value(bytes, 0, bytes.len() as u64);
    value.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn refused(hub: &Handle, hello: v1::Hello, name: Option<&str>) -> bool {
    let (outbound, _inbound) = mpsc::channel(16);
    match hub.join(hub.enrol(hello, name).unwrap(), outbound).await {
        Ok(_) => false,
        Err(e) => {
            assert_eq!(e.kind(), Kind::OutputBusy, "{e}");
            assert!(e.message().contains("worker 1"), "{e}");
            true
        }
    }
}

#[tokio::test]
async fn a_worker_under_anothers_number_is_refused_and_the_other_works_on() {
    let fixture = Fixture::new();
    let (hub, _merge) = fixture.running(Options::default()).await;
    let mut worker = Worker::join(&hub, &fixture.stores, 1, 1).await;
    worker.until("an assignment", |w| !w.held.is_empty()).await;
    let other = Worker::join(&hub, &fixture.stores, 2, 1).await;
    let with = |secret: &[u8], class: &str| v1::Hello { secret: secret.to_vec(), ..hello(1, class, 8) };
    for (what, hello, name) in [
        ("no secret", with(&[], "cpu"), None),
        ("no secret, of another class", with(&[], "cuda:90:132:13.1"), None),
        ("the secret of another worker", with(&other.secret, "cpu"), None),
        ("half of the secret", with(&worker.secret[..28], "cpu"), None),
        ("the secret under a certificate of its own", with(&worker.secret, "cpu"), Some("pod-7")),
    ] {
        assert!(refused(&hub, hello, name).await, "{what}");
    }
    assert!(worker.session.closed.has_changed().is_ok(), "its session is open");
    let workers = hub.workers().await.unwrap();
    assert_eq!(workers.iter().map(|w| w.slots).collect::<Vec<_>>(), [1, 1], "nobody's slots were changed");
    // With its secret the worker itself comes back, and its attempt goes on.
    let assign = worker.held.pop_front().unwrap();
    let mut again = worker.again(1).await;
    again.work(&assign).await;
    again.until("the acknowledgement", |w| !w.acked.is_empty()).await;
    assert!(again.revoked.is_empty());
}

#[tokio::test]
async fn a_number_that_a_certificate_has_is_for_that_certificate() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (outbound, _inbound) = mpsc::channel(16);
    let enrolment = hub.enrol(hello(1, "cpu", 1), Some("pod-7")).unwrap();
    let secret = enrolment.secret();
    let _session = hub.join(enrolment, outbound).await.unwrap();
    let shown = || v1::Hello { secret: secret.clone(), ..hello(1, "cpu", 1) };
    assert!(refused(&hub, shown(), None).await, "a certificate without a name");
    assert!(refused(&hub, shown(), Some("pod-8")).await, "one of another worker");
    assert!(!refused(&hub, shown(), Some("pod-7")).await);
}

#[tokio::test]
async fn after_a_restart_on_the_same_state_a_worker_gets_its_number_back_from_one_that_took_it() {
    let fixture = Fixture::new();
    let first = fixture.hub(Options::default()).await;
    let worker = Worker::join(&first, &fixture.stores, 1, 1).await;
    let (shown, secret) = (hello(1, "cpu", 3), worker.secret.clone());
    drop((first, worker));
    // Registrations are told apart by the millisecond.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let hub = fixture.hub(Options::default()).await;
    // The new coordinator does not know the number, so whoever asks first gets it.
    let mut thief = Worker::join(&hub, &fixture.stores, 1, 1).await;
    assert!(!refused(&hub, v1::Hello { secret, ..shown }, None).await, "the secret is older");
    assert!(thief.session.closed.changed().await.is_err(), "the thief's session is closed");
    assert!(refused(&hub, v1::Hello { secret: thief.secret.clone(), ..hello(1, "cpu", 1) }, None).await);
    assert_eq!(hub.workers().await.unwrap()[0].slots, 3);
}
