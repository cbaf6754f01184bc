//! Many merges, large ones, and records that are none: nobody is stopped by them.

use std::collections::BTreeSet;

use shardfuse_coordinator::hub::{Device, Handle, Options, Stage, Submission};
use shardfuse_merge::Kind;
use shardfuse_merge::spec::LoraSpec;

use crate::fixture::{Fixture, wait, wait_for};
use crate::worker::Worker;

/// A merge that waits for a worker with a GPU, which never comes.
fn waiting(fixture: &Fixture, output: &str) -> Submission {
    Submission { device: Some(Device::Cuda), ..fixture.submission(output) }
}

/// A merge whose spec has about so many bytes.
fn large(fixture: &Fixture, output: &str, bytes: usize) -> Submission {
    let mut submission = waiting(fixture, output);
    let lora = LoraSpec { path: format!("/{}", "x".repeat(999)), weight: 1.0 };
    submission.spec.lora = vec![lora; bytes / 1024];
    submission
}

/// All pages of the list, with the number of merges on each.
async fn pages(hub: &Handle, limit: usize) -> (Vec<String>, Vec<usize>) {
    let (mut ids, mut sizes, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = hub.list(after, limit).await.unwrap();
        sizes.push(page.merges.len());
        ids.extend(page.merges.into_iter().map(|view| view.id.as_str().to_owned()));
        match page.next {
            Some(next) => after = Some(next),
            None => return (ids, sizes),
        }
    }
}

#[tokio::test]
async fn the_list_comes_in_pages_and_each_merge_is_on_one_of_them() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let mut all = BTreeSet::new();
    for i in 0..25 {
        all.insert(hub.submit(waiting(&fixture, &format!("out-{i}"))).await.unwrap().0.id.as_str().to_owned());
    }
    let (ids, sizes) = pages(&hub, 10).await;
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(ids.iter().cloned().collect::<BTreeSet<_>>(), all);
    // Merges that come between two pages are newer than all that is still to be shown.
    let first = hub.list(None, 10).await.unwrap();
    hub.submit(waiting(&fixture, "later")).await.unwrap();
    let second = hub.list(first.next, 10).await.unwrap();
    let shown = |views: &[shardfuse_coordinator::hub::View]| -> Vec<String> {
        views.iter().map(|v| v.id.as_str().to_owned()).collect()
    };
    assert_eq!(shown(&second.merges), ids[10..20]);
}

#[tokio::test]
async fn large_merges_make_shorter_pages_and_hide_nobody() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    for i in 0..30 {
        hub.submit(large(&fixture, &format!("out-{i}"), 200 << 10)).await.unwrap();
    }
    let (ids, sizes) = pages(&hub, 1000).await;
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 30);
    // 2 MiB, and the merge that exceeds it.
    assert!(sizes.len() >= 3 && sizes.iter().all(|size| *size <= 11), "{sizes:?}");
}

#[tokio::test]
async fn a_spec_beyond_all_proportion_is_refused_with_both_numbers() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let refused = hub.submit(large(&fixture, "out", 300 << 10)).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Usage);
    assert!(refused.message().contains("262144"), "{refused}");
}

#[tokio::test]
async fn a_full_queue_is_busy_for_new_merges_until_one_leaves_it() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options { max_queued: 2, ..Options::default() }).await;
    let (first, _) = hub.submit(waiting(&fixture, "a")).await.unwrap();
    hub.submit(waiting(&fixture, "b")).await.unwrap();
    let busy = hub.submit(waiting(&fixture, "c")).await.unwrap_err();
    assert_eq!(busy.kind(), Kind::Busy);
    assert!(busy.message().contains("no more than 2") && busy.advice().unwrap().contains("--wait"), "{busy:?}");
    // What is known already is no new merge.
    assert!(hub.submit(waiting(&fixture, "a")).await.unwrap().1);
    hub.cancel(first.id, false).await.unwrap();
    hub.submit(waiting(&fixture, "c")).await.unwrap();
}

#[tokio::test]
async fn a_record_that_is_none_is_no_reason_not_to_start() {
    let fixture = Fixture::new();
    let hub = fixture.hub(Options::default()).await;
    let (good, _) = hub.submit(fixture.submission("out")).await.unwrap();
    wait_for(&hub, &good.id, Stage::Running).await;
    drop(hub);
    let at = |name: &str| fixture.path(&format!("state/{name}"));
    std::fs::write(at("merges/0000000000000001"), "{").unwrap();
    std::fs::write(at("merges/0000000000000002"), vec![b'x'; 2 << 20]).unwrap();
    let hub = fixture.hub(Options::default()).await;
    assert_eq!(hub.list(None, 10).await.unwrap().merges.len(), 1);
    for name in ["0000000000000001", "0000000000000002"] {
        assert!(at(&format!("unreadable/{name}")).is_file() && !at(&format!("merges/{name}")).exists(), "{name}");
    }
    let serving = tokio::spawn(Worker::join(&hub, &fixture.stores, 1, 4).await.serve());
    assert_eq!(wait(&hub, &good.id, |v| v.stage.has_ended()).await.stage, Stage::Done);
    serving.abort();
}
