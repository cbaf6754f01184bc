use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::fault::{Fault, Faulty, Operation};
use crate::memory::Memory;
use crate::retry::Retrying;

/// What is counted while `work` runs, as Prometheus would fetch it.
fn counts(work: impl Future<Output = ()>) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(work));
    recorder.handle().render()
}

#[track_caller]
fn assert_says(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
}

#[test]
fn every_try_is_counted_by_what_came_of_it_and_only_bytes_that_arrived() {
    let text = counts(async {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::new())));
        let store = Retrying::new(Arc::new(Counted::new(faulty.clone())));
        let at: Location = "s3://bucket/a/x".parse().unwrap();
        faulty.plan_run(Operation::Put, 1, 2, Fault::Before(ErrorKind::Transient));
        store.put(&at, "seven!!".into()).await.unwrap();
        store.read(&at, 1, vec![0; 5], None).await.unwrap();
        let missing: Location = "s3://bucket/a/y".parse().unwrap();
        assert_eq!(store.head(&missing).await.unwrap_err().kind(), ErrorKind::NotFound);
    });
    let put = r#"shardfuse_store_requests_total{store="s3://bucket",operation="put",outcome="#;
    assert_says(&text, &format!(r#"{put}"error"}} 2"#));
    assert_says(&text, &format!(r#"{put}"ok"}} 1"#));
    assert_says(&text, &format!(r#"{put}"throttled"}} 0"#));
    assert_says(&text, r#"shardfuse_store_requests_total{store="s3://bucket",operation="head",outcome="ok"} 1"#);
    assert_says(&text, r#"shardfuse_store_requests_total{store="s3://bucket",operation="head",outcome="error"} 0"#);
    assert_says(&text, r#"shardfuse_store_bytes_total{store="s3://bucket",direction="write"} 7"#);
    assert_says(&text, r#"shardfuse_store_bytes_total{store="s3://bucket",direction="read"} 5"#);
    let again = r#"shardfuse_store_retries_total{store="s3://bucket",operation="put",reason="failed"} 2"#;
    assert_says(&text, again);
}

#[test]
fn bytes_that_a_store_copied_are_counted_apart_from_those_that_were_put() {
    let text = counts(async {
        let store = Counted::new(Arc::new(Memory::new()));
        let at: Location = "s3://bucket/x".parse().unwrap();
        store.put(&at, "abcdef".into()).await.unwrap();
        let pin = store.head(&at).await.unwrap().pin;
        let upload = store.begin(&at, 5).await.unwrap();
        let copy = |end| Chunk::Copy { from: at.clone(), range: 1..end, pin: pin.clone() };
        let slot = PartSlot { number: 0, offset: 0 };
        store.compose_part(&at, &upload, slot, vec![copy(4), Chunk::Bytes("xy".into())]).await.unwrap();
        store.compose_part(&at, &upload, slot, vec![copy(99)]).await.unwrap_err();
    });
    assert_says(
        &text,
        r#"shardfuse_store_requests_total{store="s3://bucket",operation="compose_part",outcome="ok"} 2"#,
    );
    assert_says(&text, r#"shardfuse_store_bytes_total{store="s3://bucket",direction="copy"} 3"#);
    assert_says(&text, r#"shardfuse_store_bytes_total{store="s3://bucket",direction="write"} 8"#);
}

#[test]
fn a_store_that_has_too_many_calls_is_told_from_one_that_fails() {
    let at: Location = "gs://bucket/x".parse().unwrap();
    let text = counts(async {
        let busy = Error::new(ErrorKind::Transient, &at, "slow down").as_throttled();
        counted(&at, "read", async { Err::<(), _>(busy) }).await.unwrap_err();
    });
    assert_says(&text, r#"shardfuse_store_requests_total{store="gs://bucket",operation="read",outcome="throttled"} 1"#);
    assert_says(&text, r#"shardfuse_store_requests_total{store="gs://bucket",operation="read",outcome="error"} 0"#);
}

#[test]
fn a_store_is_named_without_a_path() {
    for (at, expected) in [
        ("s3://bucket/models/secret-name", "s3://bucket"),
        ("https://host:8443/x/y", "https://host:8443"),
        ("/srv/models", "file"),
        ("hf://org/model@main/x", "hf"),
    ] {
        assert_eq!(name(&at.parse().unwrap()), expected, "{at}");
    }
}
