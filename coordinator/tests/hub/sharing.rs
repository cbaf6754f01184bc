//! Several merges on several workers.

use std::time::Duration;

use shardfuse_coordinator::hub::{Device, Options, Stage, Submission};
use shardfuse_coordinator::schedule::Limits;
use shardfuse_merge::Kind;
use shardfuse_proto::v1;

use crate::fixture::{Fixture, until, wait, wait_for};
use crate::worker::Worker;

#[tokio::test]
async fn two_merges_share_two_workers_and_both_are_published() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (a, _) = hub.submit(fixture.submission("a")).await.unwrap();
    let (b, _) = hub.submit(fixture.submission("b")).await.unwrap();
    for merge in [&a, &b] {
        assert_eq!(wait_for(&hub, &merge.id, Stage::Running).await.stage, Stage::Running);
    }
    let mut first = Worker::join(&hub, &fixture.stores, 1, 2).await;
    let mut second = Worker::join(&hub, &fixture.stores, 2, 2).await;
    // What was given out when there was one worker is shared anew when there are two; each merge has two of the slots.
    let (ida, idb) = (a.id.as_str(), b.id.as_str());
    until("both work for both", async || {
        first.take();
        second.take();
        let of = |id: &str| first.held_of(id) + second.held_of(id);
        of(ida) >= 2 && of(idb) >= 2
    })
    .await;
    let workers = [tokio::spawn(first.serve()), tokio::spawn(second.serve())];
    for (merge, name) in [(&a, "a"), (&b, "b")] {
        let view = wait_for(&hub, &merge.id, Stage::Done).await;
        assert_eq!(view.stage, Stage::Done, "{view:?}");
        assert_eq!(view.progress.tasks_done, view.progress.tasks_total);
        assert!(fixture.path(name).join("shardfuse.json").is_file());
    }
    drop(hub);
    workers.iter().for_each(|w| w.abort());
}

#[tokio::test]
async fn a_higher_priority_gets_the_slots() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (low, _) = hub.submit(fixture.submission("low")).await.unwrap();
    let (high, _) = hub.submit(Submission { priority: 5, ..fixture.submission("high") }).await.unwrap();
    for merge in [&low, &high] {
        wait_for(&hub, &merge.id, Stage::Running).await;
    }
    let mut worker = Worker::join(&hub, &fixture.stores, 1, 3).await;
    worker.until("three assignments", |w| w.held.len() == 3).await;
    assert_eq!(worker.held_of(high.id.as_str()), 3);
    let serving = tokio::spawn(worker.serve());
    for merge in [&high, &low] {
        assert_eq!(wait_for(&hub, &merge.id, Stage::Done).await.stage, Stage::Done);
    }
    serving.abort();
}

#[tokio::test]
async fn merges_beyond_the_limit_wait_for_their_turn() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options { max_active: 1, ..Options::default() }).await;
    let (a, _) = hub.submit(fixture.submission("a")).await.unwrap();
    let (b, _) = hub.submit(fixture.submission("b")).await.unwrap();
    let (c, _) = hub.submit(Submission { priority: 1, ..fixture.submission("c") }).await.unwrap();
    wait_for(&hub, &a.id, Stage::Running).await;
    assert_eq!(wait(&hub, &b.id, |_| true).await.stage, Stage::Queued);
    let serving = tokio::spawn(Worker::join(&hub, &fixture.stores, 1, 4).await.serve());
    for id in [&a.id, &b.id, &c.id] {
        assert_eq!(wait_for(&hub, id, Stage::Done).await.stage, Stage::Done);
    }
    let ended = async |id| hub.get(id).await.unwrap().unwrap().borrow().ended.unwrap();
    assert!(ended(c.id).await <= ended(b.id).await, "the higher priority came first");
    serving.abort();
}

#[tokio::test]
async fn a_merge_without_workers_gives_its_place_to_one_that_has_some() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options { max_active: 1, ..Options::default() }).await;
    let (stuck, _) = hub.submit(fixture.submission("a")).await.unwrap();
    wait_for(&hub, &stuck.id, Stage::Running).await;
    let (second, _) = hub.submit(fixture.submission("b")).await.unwrap();
    let cuda = Submission { device: Some(Device::Cuda), ..fixture.submission("c") };
    let (served, _) = hub.submit(cuda).await.unwrap();
    let gpu = Worker::of_class(&hub, &fixture.stores, 1, "cuda:sm90:132:12.8.4", 2).await;
    let gpu = tokio::spawn(gpu.serve());
    assert_eq!(wait_for(&hub, &served.id, Stage::Done).await.stage, Stage::Done);
    assert_eq!(wait(&hub, &stuck.id, |_| true).await.stage, Stage::Running);
    assert_eq!(wait(&hub, &second.id, |_| true).await.stage, Stage::Queued, "it would wait for the same workers");

    let cpu = tokio::spawn(Worker::join(&hub, &fixture.stores, 2, 4).await.serve());
    for id in [&stuck.id, &second.id] {
        assert_eq!(wait_for(&hub, id, Stage::Done).await.stage, Stage::Done);
    }
    gpu.abort();
    cpu.abort();
}

#[tokio::test]
async fn a_worker_that_is_quarantined_leaves_the_merge_to_the_others() {
    let fixture = Fixture::new();
    let limits = Limits { worker_strikes: 1, retry_delay: Duration::from_millis(10), ..Limits::default() };
    let hub = fixture.hub(Options { limits, ..Options::default() }).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    let mut bad = Worker::join(&hub, &fixture.stores, 1, 1).await;
    bad.until("an assignment", |w| !w.held.is_empty()).await;
    let assign = bad.held.pop_front().unwrap();
    bad.fail(&assign, v1::ErrorKind::WorkerLocal, "no_space").await;
    let serving = tokio::spawn(Worker::join(&hub, &fixture.stores, 2, 2).await.serve());
    assert_eq!(wait_for(&hub, &merge.id, Stage::Done).await.stage, Stage::Done);
    bad.take();
    assert!(bad.held.is_empty(), "nothing more for a worker that was quarantined");
    serving.abort();
}

#[tokio::test]
async fn a_failure_that_all_workers_have_in_common_ends_the_merge() {
    let fixture = Fixture::new();
    let limits = Limits { worker_strikes: 1, retry_delay: Duration::from_millis(10), ..Limits::default() };
    let options = Options { limits, no_worker_timeout: Duration::from_millis(100), ..Options::default() };
    let hub = fixture.hub(options).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    let mut workers = Vec::new();
    for id in 1..=2 {
        let mut worker = Worker::join(&hub, &fixture.stores, id, 1).await;
        worker.until("an assignment", |w| !w.held.is_empty()).await;
        let assign = worker.held.pop_front().unwrap();
        worker.fail(&assign, v1::ErrorKind::WorkerLocal, "no_space").await;
        workers.push(worker);
    }
    let view = wait_for(&hub, &merge.id, Stage::Failed).await;
    assert_eq!((view.stage, view.failure.map(|e| e.kind())), (Stage::Failed, Some(Kind::NoSpace)));
}

#[tokio::test]
async fn a_permanent_failure_stops_the_merge_on_all_workers_at_once() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    let mut first = Worker::join(&hub, &fixture.stores, 1, 1).await;
    first.until("an assignment", |w| !w.held.is_empty()).await;
    let mut second = Worker::join(&hub, &fixture.stores, 2, 2).await;
    second.until("two assignments", |w| w.held.len() == 2).await;
    first.fail(&first.held[0], v1::ErrorKind::Permanent, "non_finite").await;
    second.until("both are revoked", |w| w.revoked.len() == 2).await;
    let view = wait_for(&hub, &merge.id, Stage::Failed).await;
    let failure = view.failure.unwrap();
    assert_eq!(
        (failure.kind(), failure.message(), failure.advice()),
        (Kind::NonFinite, "worker 1 cannot", Some("look"))
    );
    assert!(!fixture.path("out").exists(), "a failure that will be the same next time leaves nothing");
}

#[tokio::test]
async fn without_workers_a_merge_waits_and_says_so() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    let says = |what: &'static str| move |v: &shardfuse_coordinator::hub::View| v.remarks.iter().any(|r| r == what);
    wait(&hub, &merge.id, says("waiting for a worker of device class cpu")).await;
    let worker = Worker::join(&hub, &fixture.stores, 1, 1).await;
    wait(&hub, &merge.id, |v| v.remarks.is_empty()).await;
    drop(worker);
}

#[tokio::test]
async fn a_merge_for_cuda_takes_the_class_of_the_first_worker_that_has_it_and_no_other() {
    const CLASS: &str = "cuda:sm90:132:12.8.4";
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let cuda = Submission { device: Some(Device::Cuda), ..fixture.submission("out") };
    let (merge, _) = hub.submit(cuda).await.unwrap();
    let mut cpu = Worker::join(&hub, &fixture.stores, 1, 4).await;
    wait(&hub, &merge.id, |v| v.remarks == ["waiting for a worker of device cuda"]).await;
    let first = Worker::of_class(&hub, &fixture.stores, 2, CLASS, 2).await;
    let serving = tokio::spawn(first.serve());
    let mut other = Worker::of_class(&hub, &fixture.stores, 3, "cuda:sm80:108:12.8.4", 2).await;
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    assert_eq!((view.stage, view.device_class.map(|class| class.to_string()).as_deref()), (Stage::Done, Some(CLASS)));
    for worker in [&mut cpu, &mut other] {
        worker.take();
        assert!(worker.held.is_empty(), "nothing for another class");
    }
    let manifest = std::fs::read_to_string(fixture.path("out").join("shardfuse.json")).unwrap();
    assert!(manifest.contains(CLASS));
    serving.abort();
}
