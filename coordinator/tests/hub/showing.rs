//! What people see of merges and workers: what happened, what time went to, and the figures of those that have ended.

use shardfuse_coordinator::happening::Happening;
use shardfuse_coordinator::hub::{Farewell, Handle, Options, Stage};
use shardfuse_coordinator::registry::MergeId;
use shardfuse_proto::v1::{self, from_worker};

use crate::fixture::{Fixture, until, wait, wait_for};
use crate::worker::{Worker, parts};

async fn happened(hub: &Handle, of: Option<&MergeId>) -> Vec<Happening> {
    hub.happenings(of.cloned()).await.unwrap().expect("the merge is known").iter().cloned().collect()
}

/// Waits until something with this text happened; returns it.
async fn saw(hub: &Handle, of: Option<&MergeId>, text: &str) -> Happening {
    until(text, async || happened(hub, of).await.iter().any(|what| what.text.contains(text))).await;
    happened(hub, of).await.into_iter().rfind(|what| what.text.contains(text)).unwrap()
}

#[tokio::test]
async fn a_merge_that_has_ended_keeps_its_figures_when_the_coordinator_starts_again() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (merge, _) = hub.submit(fixture.submission("out")).await.unwrap();
    let serving = tokio::spawn(Worker::join(&hub, &fixture.stores, 1, 2).await.serve());
    let before = wait_for(&hub, &merge.id, Stage::Done).await;
    assert!(before.progress.bytes_done > 0 && before.began.is_some_and(|began| began >= before.submitted));
    hub.stop(Farewell::ComeBack).await;
    serving.abort();

    let hub = fixture.hub(Options::default()).await;
    let after = wait(&hub, &merge.id, |_| true).await;
    assert_eq!((after.stage, after.began, after.ended), (Stage::Done, before.began, before.ended));
    let figures = |v: &shardfuse_coordinator::hub::View| {
        let p = &v.progress;
        (p.bytes_done, p.bytes_total, p.output_bytes, p.tasks_done, p.tasks_total, p.parts_new)
    };
    assert_eq!(figures(&after), figures(&before));
    assert!(happened(&hub, Some(&merge.id)).await.is_empty(), "nothing happened to it here");
}

#[tokio::test]
async fn a_failed_attempt_is_shown_with_its_hint_and_the_next_one_with_its_number() {
    let fixture = Fixture::new();
    let (hub, merge) = fixture.running(Options::default()).await;
    let mut worker = Worker::join(&hub, &fixture.stores, 7, 1).await;
    worker.until("an assignment", |w| !w.held.is_empty()).await;
    let assign = worker.held.pop_front().unwrap();
    worker.fail(&assign, v1::ErrorKind::Transient, "io").await;
    let fault = saw(&hub, Some(&merge), "failed; the task is tried again: worker 7 cannot").await;
    assert!(fault.fault && fault.hint.as_deref() == Some("look") && fault.worker.is_some(), "{fault:?}");
    assert!(fault.text.starts_with("attempt 1 at task "), "{fault:?}");
    // Those that look at no merge see it too.
    saw(&hub, None, &format!("merge {merge}: attempt 1")).await;
    let serving = tokio::spawn(worker.serve());
    assert!(!saw(&hub, Some(&merge), "attempt 2 at task ").await.fault);
    wait_for(&hub, &merge, Stage::Done).await;
    let all = happened(&hub, Some(&merge)).await;
    let texts: Vec<&str> = all.iter().map(|what| what.text.as_str()).collect();
    assert_eq!((texts.first(), texts.last()), (Some(&"submitted"), Some(&"done")), "{texts:?}");
    serving.abort();
}

#[tokio::test]
async fn a_worker_whose_session_breaks_is_named_at_the_merges_that_use_it() {
    let fixture = Fixture::new();
    let (hub, merge) = fixture.running(Options::default()).await;
    let mut worker = Worker::join(&hub, &fixture.stores, 1, 1).await;
    worker.until("an assignment", |w| !w.held.is_empty()).await;
    hub.broken(worker.id, worker.session.number).await;
    for of in [Some(&merge), None] {
        let fault = saw(&hub, of, "its connection broke").await;
        assert!(fault.fault && fault.hint.is_some() && fault.worker.is_some(), "{fault:?}");
    }
    // That there is no worker is a state, and nothing wrong.
    let view = wait(&hub, &merge, |v| v.waiting.is_some()).await;
    assert_eq!((view.stage, view.failure), (Stage::Running, None));
    assert!(!saw(&hub, Some(&merge), "waiting for a worker").await.fault);
    let _again = Worker::join(&hub, &fixture.stores, 2, 1).await;
    wait(&hub, &merge, |v| v.waiting.is_none()).await;
}

#[tokio::test]
async fn the_task_stream_has_what_workers_tell_of_their_time() {
    let fixture = Fixture::new();
    let (hub, merge) = fixture.running(Options::default()).await;
    let mut worker = Worker::join(&hub, &fixture.stores, 1, 1).await;
    worker.until("an assignment", |w| !w.held.is_empty()).await;
    let assign = worker.held.pop_front().unwrap();
    let part = parts(&assign)[0];
    let from_worker::Message::PieceDone(done) = worker.put(&assign, part).await else { panic!("a report") };
    let times = v1::StageTimes { wait_us: 1, fetch_us: 2, fuse_us: 3, hold_us: 4, put_us: 5 };
    worker.say(from_worker::Message::PieceDone(v1::PieceDone { times: Some(times), ..done })).await;
    let told = hub.stream(merge.clone(), 0).await.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].piece, told[0].times, told[0].bytes > 0), (part, times, true));
    assert!(hub.stream(merge, told[0].number).await.unwrap().is_empty(), "it is told once");
}
