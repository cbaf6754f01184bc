//! Workers that live and do nothing.

use std::time::Duration;

use shardfuse_coordinator::hub::{Options, Stage, Submission};
use shardfuse_coordinator::schedule::Limits;

use crate::fixture::{Fixture, until, wait_for};
use crate::worker::Worker;

/// Takes all that it is given, and only sends heartbeats, until its session ends.
async fn only_beat(mut worker: Worker) {
    loop {
        worker.take();
        worker.beat().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_worker_that_takes_every_task_and_only_beats_does_not_hold_the_merge() {
    let fixture = Fixture::new();
    let limits = Limits { lease: Duration::from_secs(1), still_leases: 2, ..Limits::default() };
    let hub = fixture.hub(Options { limits, ..Options::default() }).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    // Two of them: a second attempt at what is slow would be theirs as well.
    let mut attackers = Vec::new();
    for id in [1, 2] {
        let mut attacker = Worker::join(&hub, &fixture.stores, id, 1024).await;
        if id == 1 {
            attacker.until("all the tasks", |w| w.held.len() > 4).await;
        }
        attackers.push(tokio::spawn(only_beat(attacker)));
    }
    let honest = tokio::spawn(Worker::join(&hub, &fixture.stores, 3, 1).await.serve());
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    assert_eq!(view.stage, Stage::Done, "{view:?}");
    assert_eq!(view.progress.expired, 0, "no lease ran out: {view:?}");
    attackers.iter().for_each(|a| a.abort());
    honest.abort();
}

#[tokio::test]
async fn slots_of_an_idler_are_not_counted_as_the_merges_share() {
    let fixture = Fixture::new();
    let limits = Limits { lease: Duration::from_secs(1), still_leases: 2, ..Limits::default() };
    let hub = fixture.hub(Options { limits, ..Options::default() }).await;
    // The spare slots go to the merge of the higher priority; the other one has what it could use, and the idler offers that.
    let high = Submission { priority: 5, ..fixture.submission("high") };
    let (low, _) = hub.submit(fixture.submission("low")).await.unwrap();
    let mut idler = Worker::join(&hub, &fixture.stores, 1, 1024).await;
    idler.until("the tasks of the lower priority", |w| w.held_of(low.id.as_str()) > 0).await;
    let (high, _) = hub.submit(high).await.unwrap();
    until("tasks of the higher priority", async || {
        idler.take();
        idler.beat().await;
        idler.held_of(high.id.as_str()) > 0
    })
    .await;
    let idling = tokio::spawn(only_beat(idler));
    let honest = tokio::spawn(Worker::join(&hub, &fixture.stores, 2, 2).await.serve());
    for merge in [&low, &high] {
        let view = wait_for(&hub, &merge.id, Stage::Done).await;
        assert_eq!(view.stage, Stage::Done, "{view:?}");
    }
    idling.abort();
    honest.abort();
}
