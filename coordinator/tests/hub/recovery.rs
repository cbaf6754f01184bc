//! Sessions and coordinators that come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use shardfuse_coordinator::hub::{self, Farewell, Options, Stage, Submission};
use shardfuse_coordinator::schedule::Limits;
use shardfuse_merge::Kind;
use shardfuse_proto::v1::{self, from_worker};

use crate::fixture::{Fixture, TIMEOUT, until, wait, wait_for};
use crate::worker::{Worker, hello, parts};

#[tokio::test]
async fn a_worker_that_connects_again_replaces_its_session_and_keeps_its_attempts() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    let mut old = Worker::join(&hub, &fixture.stores, 1, 1).await;
    old.until("an assignment", |w| !w.held.is_empty()).await;
    let assign = old.held.pop_front().unwrap();
    let done = old.put(&assign, parts(&assign)[0]).await;

    let mut new = old.again(1).await;
    tokio::time::timeout(TIMEOUT, old.session.closed.changed()).await.unwrap().unwrap_err();
    old.say(done.clone()).await;
    let beat = v1::Heartbeat { running: assign.attempt.iter().cloned().collect(), ..Default::default() };
    new.say(from_worker::Message::Heartbeat(beat)).await;
    new.say(done).await;
    new.until("the acknowledgement", |w| !w.acked.is_empty()).await;
    let view = wait(&hub, &merge.id, |v| v.progress.parts_new == 1).await;
    assert_eq!(view.progress.late, 0, "what the old stream said was dropped");
    assert!(new.revoked.is_empty(), "the attempt goes on: {:?}", new.revoked);
    for part in &parts(&assign)[1..] {
        let done = new.put(&assign, *part).await;
        new.say(done).await;
    }
    let serving = tokio::spawn(new.serve());
    assert_eq!(wait_for(&hub, &merge.id, Stage::Done).await.stage, Stage::Done);
    serving.abort();
}

#[tokio::test]
async fn a_worker_that_reads_nothing_is_cut_off_and_others_do_its_tasks() {
    let fixture = Fixture::new();
    let limits = Limits { lease: Duration::from_secs(1), ..Limits::default() };
    let hub = fixture.hub(Options { limits, ..Options::default() }).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    let mut deaf = Worker::with_room(&hub, &fixture.stores, hello(1, "cpu", 8), 2).await;
    let cut = tokio::time::timeout(TIMEOUT, deaf.session.closed.changed()).await;
    cut.expect("the session is closed").unwrap_err();
    deaf.take();
    assert_eq!(deaf.held.len(), 2, "what its queue held was given to it");

    let serving = tokio::spawn(Worker::join(&hub, &fixture.stores, 2, 1).await.serve());
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    assert_eq!(view.stage, Stage::Done, "{view:?}");
    assert!(view.progress.expired >= 2, "its leases ended: {view:?}");
    serving.abort();
}

#[tokio::test]
async fn attempts_of_merges_that_do_not_run_here_are_revoked() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let mut worker = Worker::join(&hub, &fixture.stores, 1, 1).await;
    let attempt = v1::Attempt { task: 3, epoch: 7, merge: "of another coordinator".into() };
    let running = vec![attempt.clone()];
    worker.say(from_worker::Message::Heartbeat(v1::Heartbeat { running, ..Default::default() })).await;
    let done = v1::PieceDone { attempt: Some(attempt.clone()), ..Default::default() };
    worker.say(from_worker::Message::PieceDone(done)).await;
    worker.until("two revocations", |w| w.revoked.len() == 2).await;
    assert_eq!(worker.revoked, [attempt.clone(), attempt]);
}

/// Lets a worker journal some parts, and returns those that were acknowledged, by task.
async fn some_parts(worker: &mut Worker) -> BTreeSet<(u32, u32)> {
    for _ in 0..3 {
        worker.until("an assignment", |w| !w.held.is_empty()).await;
        let assign = worker.held.pop_front().unwrap();
        worker.work(&assign).await;
    }
    worker.until("acknowledgements", |w| w.acked.len() >= 8).await;
    worker.acked.iter().map(|(attempt, piece)| (attempt.task, *piece)).collect()
}

/// Joins as another worker, does the rest, and checks that nothing is given out that was acknowledged before.
async fn the_rest(fixture: &Fixture, hub: &hub::Handle, kept: &BTreeSet<(u32, u32)>, stage: Stage) {
    let id = hub.list(None, 1).await.unwrap().merges[0].id.clone();
    let mut worker = Worker::join(hub, &fixture.stores, 9, 2).await;
    let view = hub.get(id.clone()).await.unwrap().unwrap();
    loop {
        worker.take();
        let Some(assign) = worker.held.pop_front() else {
            if view.borrow().stage.has_ended() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let task = assign.attempt.as_ref().unwrap().task;
        for part in parts(&assign) {
            assert!(!kept.contains(&(task, part)), "part {part} of task {task} was journaled, and is given out again");
        }
        worker.work(&assign).await;
    }
    let view = wait(hub, &id, |v| v.stage.has_ended()).await;
    assert_eq!(view.stage, stage, "{view:?}");
    assert!(view.progress.parts_kept >= kept.len() as u64);
}

#[tokio::test]
async fn a_hub_on_the_same_state_goes_on_and_redoes_nothing_that_is_finished() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    // What the submitter allowed is done once: a second start that discarded again would keep nothing.
    let allowed = Submission { restart: true, ..fixture.submission("out") };
    let (merge, known) = hub.submit(allowed).await.unwrap();
    assert!(!known);
    wait_for(&hub, &merge.id, Stage::Running).await;
    let mut worker = Worker::join(&hub, &fixture.stores, 1, 1).await;
    let kept = some_parts(&mut worker).await;
    // Nobody speaks to the hub any more: it breaks off, as if it were killed.
    drop((hub, worker));

    let hub = fixture.hub(Options::default()).await;
    assert_eq!(hub.list(None, 10).await.unwrap().merges.len(), 1);
    the_rest(&fixture, &hub, &kept, Stage::Done).await;
    // The end is remembered too.
    until("the end is recorded", async || {
        fixture.registry("state").all().await.unwrap().merges.iter().all(|(_, r)| r.ended.is_some())
    })
    .await;
    let hub = fixture.hub(Options::default()).await;
    assert_eq!(wait(&hub, &merge.id, |_| true).await.stage, Stage::Done);
    let (_, known) = hub.submit(fixture.submission("out")).await.unwrap();
    assert!(known);
}

#[tokio::test]
async fn a_hub_that_stops_journals_what_was_reported_and_sends_nobody_away() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    let mut worker = Worker::join(&hub, &fixture.stores, 1, 1).await;
    let kept = some_parts(&mut worker).await;
    tokio::time::timeout(TIMEOUT, hub.stop(Farewell::ComeBack)).await.unwrap();
    tokio::time::timeout(TIMEOUT, worker.session.closed.changed()).await.unwrap().unwrap_err();
    worker.take();
    assert!(!worker.stopped, "the worker is to come back");
    let refused = hub.submit(fixture.submission("other")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Interrupted);

    let hub = fixture.hub(Options::default()).await;
    the_rest(&fixture, &hub, &kept, Stage::Done).await;
}

#[tokio::test]
async fn a_hub_that_loses_its_merge_to_another_stops_and_does_not_record_an_end() {
    let fixture = Fixture::new();
    let options = Options { watch_every: Duration::from_millis(50), ..Options::default() };
    let first = fixture.hub(options.clone()).await;
    let (merge, _) = first.submit(fixture.submission("out")).await.unwrap();
    wait_for(&first, &merge.id, Stage::Running).await;

    let registry = Some(fixture.registry("other"));
    let second = hub::start(fixture.stores.clone(), registry, options).await.unwrap();
    second.submit(fixture.submission("out")).await.unwrap();
    let view = wait_for(&first, &merge.id, Stage::Failed).await;
    assert_eq!(view.failure.map(|e| e.kind()), Some(Kind::OutputBusy));
    let serving = tokio::spawn(Worker::join(&second, &fixture.stores, 1, 4).await.serve());
    assert_eq!(wait_for(&second, &merge.id, Stage::Done).await.stage, Stage::Done);
    let records = fixture.registry("state").all().await.unwrap().merges;
    assert!(records[0].1.ended.is_none(), "the other one says how it ends");
    serving.abort();
}

/// Somebody deletes the folder of the uploads while a service works: the merge is not lost, and nobody has to submit it again.
#[tokio::test]
async fn uploads_that_vanish_are_begun_anew_by_the_hub_itself() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    let mut worker = Worker::join(&hub, &fixture.stores, 1, 1).await;
    some_parts(&mut worker).await;
    worker.until("an assignment", |w| !w.held.is_empty()).await;
    std::fs::remove_dir_all(fixture.path("out/.shardfuse/upload")).unwrap();
    let missed = worker.held.pop_front().unwrap();
    let first = missed.attempt.clone().unwrap();
    worker.fail(&missed, v1::ErrorKind::Stale, "parts_lost").await;
    worker
        .until("an assignment of the next round", |w| {
            w.held.iter().any(|a| a.attempt.as_ref().unwrap().merge != first.merge)
        })
        .await;
    assert_eq!(first.epoch, 1, "one put missed the upload");
    let serving = tokio::spawn(worker.serve());
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    assert_eq!((view.stage, view.progress.parts_kept), (Stage::Done, 0), "{view:?}");
    serving.abort();
}

/// A worker that has not mounted the output: that is no reason to begin anew.
#[tokio::test]
async fn a_worker_that_alone_does_not_see_an_upload_is_quarantined() {
    let fixture = Fixture::new();
    let limits = Limits { worker_strikes: 2, ..Limits::default() };
    let hub = fixture.hub(Options { limits, ..Options::default() }).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    let mut blind = Worker::join(&hub, &fixture.stores, 1, 1).await;
    for _ in 0..2 {
        blind.until("an assignment", |w| !w.held.is_empty()).await;
        let assign = blind.held.pop_front().unwrap();
        blind.fail(&assign, v1::ErrorKind::Stale, "parts_lost").await;
    }
    let serving = tokio::spawn(Worker::join(&hub, &fixture.stores, 2, 1).await.serve());
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    assert_eq!(view.stage, Stage::Done, "{view:?}");
    blind.take();
    assert!(blind.held.is_empty(), "nothing more is given to it");
    serving.abort();
}
