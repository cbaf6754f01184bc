//! Merges over which a coordinator dies, or that cannot be planned in any time.

use std::net::TcpListener;

use shardfuse_coordinator::hub::{Farewell, Handle, Options, Stage, Submission};
use shardfuse_coordinator::registry::{MergeId, Record};
use shardfuse_merge::Kind;

use crate::fixture::{Fixture, until, wait, wait_for};
use crate::worker::Worker;

/// A merge whose base lies on a web server that takes connections and never answers: reading it does not end.
fn endless(fixture: &Fixture, silent: &TcpListener, output: &str) -> Submission {
    let mut submission = fixture.submission(output);
    submission.spec.base = format!("http://{}/base", silent.local_addr().unwrap());
    submission
}

fn silent() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

async fn record(fixture: &Fixture, id: &MergeId) -> Record {
    let all = fixture.registry("state").all().await.unwrap().merges;
    all.into_iter().find(|(found, _)| found == id).expect("the merge is recorded").1
}

async fn is_marked(fixture: &Fixture, id: &MergeId) {
    until("the marker is written", async || record(fixture, id).await.planning.is_some()).await;
}

/// Nobody speaks to the hub any more: it breaks off, as if it were killed.
async fn kill(hub: Handle) {
    drop(hub);
    tokio::task::yield_now().await;
}

async fn is_done(hub: &Handle, fixture: &Fixture, output: &str) {
    let (merge, _) = hub.submit(fixture.submission(output)).await.unwrap();
    let serving = tokio::spawn(Worker::join(hub, &fixture.stores, 1, 4).await.serve());
    assert_eq!(wait_for(hub, &merge.id, Stage::Done).await.stage, Stage::Done);
    serving.abort();
    let _ = serving.await;
}

#[tokio::test]
async fn a_merge_planned_at_two_deaths_in_a_row_is_held_until_it_is_retried_and_others_go_on() {
    let (fixture, server) = (Fixture::new(), silent());
    let hub = fixture.hub(Options::default()).await;
    let id = hub.submit(endless(&fixture, &server, "out")).await.unwrap().0.id;
    is_marked(&fixture, &id).await;
    kill(hub).await;

    let hub = fixture.hub(Options::default()).await;
    assert_eq!(wait_for(&hub, &id, Stage::Planning).await.stage, Stage::Planning, "once is no reason");
    is_marked(&fixture, &id).await;
    is_done(&hub, &fixture, "a").await;
    kill(hub).await;

    for _ in 0..2 {
        let hub = fixture.hub(Options::default()).await;
        let view = wait(&hub, &id, |_| true).await;
        let failure = view.failure.expect("the reason is shown");
        assert_eq!((view.stage, failure.kind()), (Stage::Held, Kind::Held));
        assert!(failure.message().contains("killed 2 times in a row"), "{failure}");
        assert!(failure.advice().unwrap().contains(&format!("shardfuse retry {id}")), "{failure:?}");
        let listed = hub.list(None, 10).await.unwrap().merges;
        assert!(listed.iter().any(|v| v.id == id && v.stage == Stage::Held && v.failure.is_some()));
        // The same submission is the same merge, and does not begin it.
        let (again, known) = hub.submit(endless(&fixture, &server, "out")).await.unwrap();
        assert_eq!((again.stage, known), (Stage::Held, true));
        kill(hub).await;
    }

    let hub = fixture.hub(Options::default()).await;
    is_done(&hub, &fixture, "b").await;
    assert_eq!(wait(&hub, &id, |_| true).await.stage, Stage::Held);
    hub.retry(id.clone()).await.unwrap().unwrap();
    assert_eq!(wait_for(&hub, &id, Stage::Planning).await.stage, Stage::Planning);
    let record = record(&fixture, &id).await;
    assert_eq!((record.held, record.broken_off.len()), (None, 0), "it counts anew");
}

#[tokio::test]
async fn only_the_merge_that_is_planned_at_the_second_death_is_held() {
    let (fixture, server) = (Fixture::new(), silent());
    let hub = fixture.hub(Options::default()).await;
    let mut ids = Vec::new();
    for output in ["a", "b", "c"] {
        ids.push(hub.submit(endless(&fixture, &server, output)).await.unwrap().0.id);
    }
    for id in &ids {
        is_marked(&fixture, id).await;
    }
    kill(hub).await;

    // One of the three did it: they are planned one after the other, and the death of this coordinator finds one.
    let hub = fixture.hub(Options::default()).await;
    let mut planned = None;
    until("one is planned", async || {
        for id in &ids {
            // The marker of this coordinator, and not what the one before has left.
            let record = record(&fixture, id).await;
            if record.planning.is_some() && !record.broken_off.is_empty() {
                planned = Some(id.clone());
            }
        }
        planned.is_some()
    })
    .await;
    let planned = planned.unwrap();
    let queued: Vec<MergeId> = ids.into_iter().filter(|id| *id != planned).collect();
    for id in &queued {
        assert_eq!(wait(&hub, id, |_| true).await.stage, Stage::Queued);
        assert!(record(&fixture, id).await.planning.is_none());
    }
    kill(hub).await;

    let hub = fixture.hub(Options::default()).await;
    assert_eq!(wait(&hub, &planned, |_| true).await.stage, Stage::Held);
    for id in &queued {
        assert_eq!(wait_for(&hub, id, Stage::Planning).await.stage, Stage::Planning);
    }
}

#[tokio::test]
async fn a_coordinator_that_is_told_to_stop_takes_the_marker_back() {
    let (fixture, server) = (Fixture::new(), silent());
    let submission = endless(&fixture, &server, "out");
    for _ in 0..3 {
        let hub = fixture.hub(Options::default()).await;
        let (merge, _) = hub.submit(submission.clone()).await.unwrap();
        assert_eq!(wait_for(&hub, &merge.id, Stage::Planning).await.stage, Stage::Planning);
        is_marked(&fixture, &merge.id).await;
        hub.stop(Farewell::ComeBack).await;
        let record = record(&fixture, &merge.id).await;
        assert_eq!((record.planning, record.broken_off.len(), record.held), (None, 0, None));
    }
}

#[tokio::test]
async fn deaths_while_parts_are_made_never_count() {
    let fixture = Fixture::new();
    for _ in 0..4 {
        let hub = fixture.hub(Options::default()).await;
        let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
        assert_eq!(wait_for(&hub, &merge.id, Stage::Running).await.stage, Stage::Running);
        assert_eq!(record(&fixture, &merge.id).await.planning, None, "taken back before the first task is given out");
        kill(hub).await;
    }
    let hub = fixture.hub(Options::default()).await;
    is_done(&hub, &fixture, "out").await;
}

#[tokio::test]
async fn a_cancel_reaches_a_merge_that_is_read_and_frees_its_place() {
    let (fixture, server) = (Fixture::new(), silent());
    let hub = fixture.hub(Options { max_active: 1, ..Options::default() }).await;
    let (endless, _) = hub.submit(endless(&fixture, &server, "a")).await.unwrap();
    assert_eq!(wait_for(&hub, &endless.id, Stage::Planning).await.stage, Stage::Planning);
    let (other, _) = hub.submit(fixture.submission("b")).await.unwrap();
    assert_eq!(wait(&hub, &other.id, |_| true).await.stage, Stage::Queued);
    hub.cancel(endless.id.clone(), true).await.unwrap().unwrap();
    assert_eq!(wait_for(&hub, &endless.id, Stage::Cancelled).await.stage, Stage::Cancelled);
    assert_eq!(wait_for(&hub, &other.id, Stage::Running).await.stage, Stage::Running);
}

#[tokio::test]
async fn a_held_merge_can_be_given_up() {
    let fixture = Fixture::new();
    for discard in [false, true] {
        let spec = fixture.spec(&format!("out-{discard}"));
        let id = MergeId::of(&spec);
        let mut held = Record::new(spec, "cpu", 0, 1);
        held.held = Some("a reason".into());
        fixture.registry("state").put(&id, &held).await.unwrap();
        let hub = fixture.hub(Options::default()).await;
        assert_eq!(wait(&hub, &id, |_| true).await.stage, Stage::Held);
        hub.cancel(id.clone(), discard).await.unwrap().unwrap();
        wait(&hub, &id, |v| v.stage == Stage::Cancelled).await;
    }
}

#[tokio::test]
async fn a_retry_queues_what_failed_and_leaves_alone_what_is_on_its_way_or_done() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    std::fs::rename(fixture.path("lora"), fixture.path("elsewhere")).unwrap();
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    assert_eq!(wait_for(&hub, &merge.id, Stage::Failed).await.stage, Stage::Failed);
    std::fs::rename(fixture.path("elsewhere"), fixture.path("lora")).unwrap();
    hub.retry(merge.id.clone()).await.unwrap().unwrap();
    wait(&hub, &merge.id, |v| v.stage == Stage::Running).await;
    assert_eq!(hub.retry(merge.id.clone()).await.unwrap().unwrap().stage, Stage::Running);
    is_done(&hub, &fixture, "out").await;
    assert_eq!(hub.retry(merge.id).await.unwrap().unwrap().stage, Stage::Done);
    assert!(hub.retry(MergeId::parse("0123456789abcdef").unwrap()).await.unwrap().is_none());
}
