//! Merges that are cancelled, submitted again, or in each other's way.

use shardfuse_coordinator::hub::{Options, Stage, Submission};
use shardfuse_coordinator::registry::{MergeId, Outcome};
use shardfuse_merge::Kind;

use crate::fixture::{Fixture, until, wait, wait_for};
use crate::worker::Worker;

#[tokio::test]
async fn a_cancelled_merge_is_revoked_kept_and_gone_on_with_when_it_is_submitted_again() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    let mut worker = Worker::join(&hub, &fixture.stores, 1, 2).await;
    worker.until("two assignments", |w| w.held.len() == 2).await;
    let assign = worker.held[0].clone();
    worker.work(&assign).await;
    worker.until("acknowledgements", |w| w.acked.len() == 4).await;
    hub.cancel(merge.id.clone(), false).await.unwrap().unwrap();
    worker.until("everything is revoked", |w| w.revoked.len() >= 2).await;
    assert_eq!(wait_for(&hub, &merge.id, Stage::Cancelled).await.stage, Stage::Cancelled);
    assert!(!fixture.path("out/config.json").exists() && fixture.path("out/.shardfuse/plan").is_file());

    let (again, known) = hub.submit(fixture.submission("out")).await.unwrap();
    assert!(known && again.id == merge.id);
    worker.held.clear();
    let serving = tokio::spawn(worker.serve());
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    assert_eq!((view.stage, view.progress.parts_kept >= 4), (Stage::Done, true));
    serving.abort();
}

#[tokio::test]
async fn a_merge_that_is_cancelled_and_discarded_leaves_nothing() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    assert!(fixture.path("out").exists());
    hub.cancel(merge.id.clone(), true).await.unwrap().unwrap();
    assert_eq!(wait_for(&hub, &merge.id, Stage::Cancelled).await.stage, Stage::Cancelled);
    assert!(!fixture.path("out").exists());
    // What has ended is left as it is.
    assert_eq!(hub.cancel(merge.id, true).await.unwrap().unwrap().stage, Stage::Cancelled);
    assert!(hub.cancel(MergeId::parse("0123456789abcdef").unwrap(), true).await.unwrap().is_none());
}

#[tokio::test]
async fn a_queued_merge_is_cancelled_without_ever_having_begun() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options { max_active: 1, ..Options::default() }).await;
    let (first, _) = hub.submit(fixture.submission("a")).await.unwrap();
    wait_for(&hub, &first.id, Stage::Running).await;
    let (queued, _) = hub.submit(fixture.submission("b")).await.unwrap();
    let view = hub.cancel(queued.id.clone(), false).await.unwrap().unwrap();
    assert_eq!(view.stage, Stage::Cancelled);
    assert!(!fixture.path("b").exists());
    let records = fixture.registry("state").all().await.unwrap().merges;
    let record = records.into_iter().find(|(id, _)| *id == queued.id).unwrap().1;
    assert_eq!(record.ended.map(|e| e.outcome), Some(Outcome::Cancelled));
}

#[tokio::test]
async fn one_output_is_worked_on_by_one_merge() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (first, _) = hub.submit(fixture.submission("out")).await.unwrap();
    let mut other = fixture.submission("out");
    other.spec.lora[0].weight = 0.5;
    let refused = hub.submit(other.clone()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::OutputBusy);
    assert!(refused.message().contains(first.id.as_str()), "{refused}");
    hub.cancel(first.id.clone(), true).await.unwrap();
    wait(&hub, &first.id, |v| v.stage.has_ended()).await;
    hub.submit(other).await.unwrap();
}

#[tokio::test]
async fn a_merge_that_cannot_be_planned_fails_with_its_reason_and_may_be_submitted_again() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    std::fs::rename(fixture.path("lora"), fixture.path("elsewhere")).unwrap();
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    let view = wait_for(&hub, &merge.id, Stage::Failed).await;
    assert_eq!(view.failure.map(|e| e.kind()), Some(Kind::MissingFile));
    std::fs::rename(fixture.path("elsewhere"), fixture.path("lora")).unwrap();
    let (_, known) = hub.submit(fixture.submission("out")).await.unwrap();
    assert!(known);
    let serving = tokio::spawn(Worker::join(&hub, &fixture.stores, 1, 4).await.serve());
    assert_eq!(wait(&hub, &merge.id, |v| v.stage == Stage::Done).await.failure, None);
    serving.abort();
}

#[tokio::test]
async fn old_ends_are_forgotten_here_and_in_the_records() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options { max_ended: 2, ..Options::default() }).await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let (merge, _) = hub.submit(fixture.submission(name)).await.unwrap();
        ids.push(merge.id);
    }
    for id in &ids {
        hub.cancel(id.clone(), true).await.unwrap();
        until("the merge has ended", async || {
            hub.get(id.clone()).await.unwrap().is_none_or(|v| v.borrow().stage.has_ended())
        })
        .await;
    }
    // The next end makes room.
    let (last, _) = hub.submit(Submission { priority: 1, ..fixture.submission("d") }).await.unwrap();
    hub.cancel(last.id.clone(), true).await.unwrap();
    until("two are left", async || hub.list(None, 10).await.unwrap().merges.len() == 2).await;
    until("two records are left", async || fixture.registry("state").all().await.unwrap().merges.len() == 2).await;
}
