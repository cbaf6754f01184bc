//! Parts that are computed again before publication, and workers whose memory flips a bit.

use std::path::Path;
use std::time::Duration;

use shardfuse_coordinator::hub::{Farewell, Handle, Options, Stage, Submission, View};
use shardfuse_merge::Kind;
use shardfuse_proto::v1;
use tokio::task::JoinHandle;

use crate::fixture::{Fixture, wait, wait_for};
use crate::worker::{Worker, parts};

fn options() -> Options {
    Options { no_worker_timeout: Duration::from_secs(2), ..Options::default() }
}

fn verified(fixture: &Fixture) -> Submission {
    Submission { verify_parts: Some(1.0), ..fixture.submission("out") }
}

async fn start(hub: &Handle, fixture: &Fixture, id: u64, flips: bool) -> JoinHandle<Worker> {
    let mut worker = Worker::join(hub, &fixture.stores, id, 1).await;
    worker.flips = flips;
    tokio::spawn(worker.serve())
}

/// Submits the merge and has the first worker make some of its parts before others come.
async fn begin(hub: &Handle, fixture: &Fixture, first_flips: bool) -> (View, JoinHandle<Worker>) {
    let (merge, _) = hub.submit(verified(fixture)).await.unwrap();
    wait_for(hub, &merge.id, Stage::Running).await;
    let first = start(hub, fixture, 1, first_flips).await;
    wait(hub, &merge.id, |v| v.progress.parts_new > 4).await;
    (merge, first)
}

fn assert_right(out: &Path) {
    let bytes = std::fs::read(out.join("model.safetensors")).unwrap();
    let wrong = bytes.iter().enumerate().find(|(i, byte)| **byte != (i % 251) as u8);
    assert_eq!(wrong, None, "the first byte that is wrong");
}

fn notes(out: &Path) -> String {
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("shardfuse.json")).unwrap()).unwrap();
    manifest["notes"].to_string()
}

#[tokio::test]
async fn all_parts_of_sound_workers_are_computed_again_and_the_manifest_says_so() {
    let fixture = Fixture::new();
    let hub = fixture.hub(options()).await;
    let (merge, _first) = begin(&hub, &fixture, false).await;
    let _second = start(&hub, &fixture, 2, false).await;
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    assert_eq!(view.stage, Stage::Done, "{view:?}");
    assert_right(&fixture.path("out"));
    let parts = view.progress.parts_new;
    let notes = notes(&fixture.path("out"));
    assert!(notes.contains(&format!("{parts} of {parts} parts were computed again")), "{notes}");
    assert!(notes.contains("seed "), "{notes}");
}

#[tokio::test]
async fn of_three_workers_the_one_that_flips_a_bit_is_found_and_its_parts_are_made_again_by_others() {
    let fixture = Fixture::new();
    let hub = fixture.hub(options()).await;
    let (merge, _) = hub.submit(verified(&fixture)).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    // An honest worker makes some parts, the other one some more, and then both go on.
    let mut second = Worker::join(&hub, &fixture.stores, 2, 1).await;
    second.until("an assignment", |w| !w.held.is_empty()).await;
    let assign = second.held.pop_front().unwrap();
    second.work(&assign).await;
    second.until("acknowledgements", |w| w.acked.len() > 3).await;
    let first = start(&hub, &fixture, 1, true).await;
    wait(&hub, &merge.id, |v| v.progress.parts_new > 8).await;
    let _others = [tokio::spawn(second.serve()), start(&hub, &fixture, 3, false).await];
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    // What the odd one made was lost, and made again by the others under the same submission.
    assert_eq!(view.stage, Stage::Done, "{view:?}");
    assert_right(&fixture.path("out"));
    assert!(view.progress.parts_new > 0 && view.progress.parts_kept > 0, "{view:?}");
    hub.stop(Farewell::ComeBack).await;
    let first = first.await.unwrap();
    let runs: std::collections::BTreeSet<String> = first.acked.iter().map(|(a, _)| a.merge.clone()).collect();
    assert_eq!(runs.len(), 1, "nothing of the second run went to it");
}

/// A worker that takes its time: it was assigned parts, left, and puts them when others have made them already.
async fn assigned_and_gone(hub: &Handle, fixture: &Fixture, id: u64) -> (Worker, v1::Assign) {
    let mut worker = Worker::join(hub, &fixture.stores, id, 1).await;
    worker.flips = true;
    worker.until("an assignment", |w| !w.held.is_empty()).await;
    let assign = worker.held.pop_front().unwrap();
    hub.left(worker.id, worker.session.number).await;
    (worker, assign)
}

#[tokio::test]
async fn a_late_put_of_other_bytes_over_a_part_that_was_accepted_is_not_published() {
    let fixture = Fixture::new();
    // No worker but the second one is there while the late put comes, so nothing can be published before it.
    let hub = fixture.hub(Options::default()).await;
    let (merge, _) = hub.submit(verified(&fixture)).await.unwrap();
    wait_for(&hub, &merge.id, Stage::Running).await;
    let (late, assign) = assigned_and_gone(&hub, &fixture, 1).await;
    let _second = start(&hub, &fixture, 2, false).await;
    let all =
        wait(&hub, &merge.id, |v| v.progress.parts_new > 0 && v.progress.tasks_done == v.progress.tasks_total).await;
    late.put(&assign, parts(&assign)[0]).await;
    let _third = start(&hub, &fixture, 3, false).await;
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    assert_eq!(view.stage, Stage::Done, "{view:?}");
    assert_right(&fixture.path("out"));
    assert_eq!(view.progress.parts_new, all.progress.parts_new, "the file was made again");
}

#[tokio::test]
async fn of_two_workers_that_differ_both_are_named_and_a_third_decides_later() {
    let fixture = Fixture::new();
    let hub = fixture.hub(options()).await;
    let (merge, _first) = begin(&hub, &fixture, true).await;
    let _second = start(&hub, &fixture, 2, false).await;
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    let failure = view.failure.expect("nobody can say who is right");
    assert_eq!(failure.kind(), Kind::Unverified, "{failure}");
    for named in ["(worker 1)", "(worker 2)", "model.safetensors"] {
        assert!(failure.message().contains(named), "{failure}");
    }
    assert!(!fixture.path("out/config.json").exists());
    // Nothing is lost: with a third one the same submission finds out.
    let _third = start(&hub, &fixture, 3, false).await;
    let (again, _) = hub.submit(verified(&fixture)).await.unwrap();
    let view = wait_for(&hub, &again.id, Stage::Done).await;
    assert_eq!(view.stage, Stage::Done, "{view:?}");
    assert_right(&fixture.path("out"));
}

#[tokio::test]
async fn with_one_worker_nothing_is_published_until_another_has_looked_also_after_a_restart() {
    let fixture = Fixture::new();
    let hub = fixture.hub(options()).await;
    let (merge, _first) = begin(&hub, &fixture, false).await;
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    let failure = view.failure.expect("nobody else was there");
    assert_eq!(failure.kind(), Kind::Unverified, "{failure}");
    assert!(failure.message().contains("no other worker"), "{failure}");
    assert!(failure.message().contains("1 worker of the class is connected"), "{failure}");
    assert!(failure.advice().unwrap().contains("at least 2 workers"), "{failure:?}");
    assert!(!fixture.path("out/config.json").exists());

    // A coordinator that stops meanwhile has the option in its records.
    let (again, _) = hub.submit(verified(&fixture)).await.unwrap();
    wait_for(&hub, &again.id, Stage::Running).await;
    hub.stop(Farewell::ComeBack).await;
    let hub = fixture.hub(options()).await;
    let _workers = [start(&hub, &fixture, 1, false).await, start(&hub, &fixture, 2, false).await];
    let view = wait_for(&hub, &again.id, Stage::Done).await;
    assert_eq!(view.stage, Stage::Done, "{view:?}");
    assert_eq!(view.progress.parts_new, 0, "every part was there");
    let notes = notes(&fixture.path("out"));
    assert!(notes.contains("computed again"), "{notes}");
}

#[tokio::test]
async fn a_hub_that_knows_of_one_worker_refuses_to_verify_before_it_touches_anything() {
    let fixture = Fixture::new();
    let with = |workers, verify_parts| Options { workers: Some(workers), verify_parts, ..options() };
    let alone = fixture.hub(with(1, 0.25)).await;
    let refused = [(verified(&fixture), "1"), (fixture.submission("out"), "0.25")];
    for (submission, share) in refused {
        let error = alone.submit(submission).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{error}");
        let says = format!("--verify-parts {share} needs at least 2 workers, and this merge has 1");
        assert_eq!(error.message(), says);
        assert!(error.advice().unwrap().contains("leave --verify-parts out"), "{error:?}");
    }
    assert!(!fixture.path("out").exists());
    let unverified = Submission { verify_parts: Some(0.0), ..fixture.submission("out") };
    alone.submit(unverified).await.expect("nothing is to be verified");
    fixture.hub(with(2, 0.0)).await.submit(verified(&fixture)).await.expect("two workers are enough");
}

#[tokio::test]
async fn a_share_of_zero_checks_nothing_and_the_coordinators_default_counts_where_nothing_is_said() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options { verify_parts: 1.0, ..options() }).await;
    let _worker = start(&hub, &fixture, 1, false).await;
    let without = Submission { verify_parts: Some(0.0), ..fixture.submission("out") };
    let (merge, _) = hub.submit(without).await.unwrap();
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    assert_eq!(view.stage, Stage::Done, "{view:?}");
    let (merge, _) = hub.submit(fixture.submission("other")).await.unwrap();
    let view = wait_for(&hub, &merge.id, Stage::Done).await;
    assert_eq!(view.failure.map(|f| f.kind()), Some(Kind::Unverified));
}
