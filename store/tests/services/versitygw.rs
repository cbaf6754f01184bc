//! versitygw, which serves a folder as S3: what its answers are worth, and what is done about it.
//!
//! Version 1.8 answers the completion of an upload that was dropped with 200 and an ETag, and a read that races an
//! overwrite may carry the headers of one version and the bytes of the other. It is built from Go modules, so these tests
//! run only where Go is installed.

use std::sync::Arc;

use shardfuse_store::{Completion, ErrorKind, Location, PartSlot, Stores, conformance};

use crate::place::{content, fresh, stores, told};

const PART: usize = 5 << 20;

pub fn place_with(key: &str, secret: &str) -> (Stores, Location) {
    let root = format!("s3://{}", told("SHARDFUSE_TEST_VERSITYGW_BUCKET"));
    let endpoint = told("SHARDFUSE_TEST_VERSITYGW_ENDPOINT");
    let stores = stores(&format!(
        "{root}: {{ endpoint: \"{endpoint}\", allow_http: true, region: us-east-1, \
         credentials: {{ env: {{ access_key_id: {key}, secret_access_key: {secret} }} }} }}"
    ));
    (stores, root.parse().unwrap())
}

pub fn place() -> (Stores, Location) {
    place_with("SHARDFUSE_TEST_S3_KEY", "SHARDFUSE_TEST_S3_SECRET")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs versitygw: tests/services/run.sh"]
async fn versitygw_conforms() {
    let (stores, root) = place();
    conformance::run(stores.open(&root), fresh(&root, "suite")).await;
}

#[tokio::test]
#[ignore = "needs versitygw: tests/services/run.sh"]
async fn versitygw_holds_conditional_puts_and_refuses_wrong_keys() {
    let (stores, root) = place();
    let (store, dir) = (stores.open(&root), fresh(&root, "conditions"));
    assert!(store.conditional_puts(&dir).await.unwrap());
    for (key, secret) in [
        ("SHARDFUSE_TEST_S3_KEY", "SHARDFUSE_TEST_WRONG_KEY"),
        ("SHARDFUSE_TEST_WRONG_KEY", "SHARDFUSE_TEST_S3_SECRET"),
    ] {
        let (stores, root) = place_with(key, secret);
        let error = stores.open(&root).put(&dir, "x".into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission, "{}", error.chain());
    }
}

/// It says 200 and tells an ETag, and the older object of the same length stays.
#[tokio::test]
#[ignore = "needs versitygw: tests/services/run.sh"]
async fn versitygw_is_not_believed_that_a_dropped_upload_was_completed() {
    let (stores, root) = place();
    let (store, dir) = (stores.open(&root), fresh(&root, "dropped"));
    for older in [Some(content(1, PART)), None] {
        let at = dir.join(if older.is_some() { "over" } else { "alone" }).unwrap();
        if let Some(older) = &older {
            store.put(&at, older.clone().into()).await.unwrap();
        }
        let upload = store.begin(&at, PART as u64).await.unwrap();
        let slot = PartSlot { number: 0, offset: 0 };
        let part = store.put_part(&at, &upload, slot, content(2, PART).into()).await.unwrap();
        store.abort(&at, &upload).await.unwrap();
        let answer = store.complete(&at, Completion { upload: &upload, parts: &[(0, part)], size: PART as u64 }).await;
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::NoSuchUpload, "older object: {}", older.is_some());
    }
    store.delete_tree(&dir).await.unwrap();
}

/// Reads while another process overwrites, each time with bytes that were never there before: what a pinned read returns is
/// the version of the pin, or it fails. The ETag of a small object is the MD5 of its bytes, which tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs versitygw: tests/services/run.sh"]
async fn versitygw_never_gives_another_versions_bytes_for_a_pinned_read() {
    const SIZE: usize = 64 << 10;
    let (stores, root) = place();
    let (store, dir) = (stores.open(&root), fresh(&root, "torn"));
    let at = dir.join("weights").unwrap();
    store.put(&at, content(0, SIZE).into()).await.unwrap();
    let writing = {
        let (store, at) = (Arc::clone(&store), at.clone());
        tokio::spawn(async move {
            for version in 1..=600 {
                store.put(&at, content(version, SIZE).into()).await.unwrap();
                // A fast store is overwritten within every read; some must end before the next version.
                if version % 8 == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            }
        })
    };
    let read = async || {
        let (mut whole, mut changed, mut torn) = (0, 0, 0);
        while !writing.is_finished() {
            let pin = store.head(&at).await.unwrap().pin;
            match store.read(&at, 0, vec![0; SIZE], Some(&pin)).await {
                Ok(bytes) if pin.as_str().trim_matches('"') == md5(&bytes) => whole += 1,
                Ok(_) => torn += 1,
                Err(e) if e.kind() == ErrorKind::Changed => changed += 1,
                Err(e) => panic!("{}", e.chain()),
            }
        }
        (whole, changed, torn)
    };
    let all = futures::future::join_all((0..4).map(|_| read())).await;
    let sum = |of: fn(&(u32, u32, u32)) -> u32| all.iter().map(of).sum::<u32>();
    let (whole, changed, torn) = (sum(|n| n.0), sum(|n| n.1), sum(|n| n.2));
    println!("whole {whole}, changed {changed}, torn {torn}");
    assert_eq!(torn, 0, "reads that returned another version's bytes under a pin");
    assert!(whole > 0 && changed > 0, "the race took place: whole {whole}, changed {changed}");
    store.delete_tree(&dir).await.unwrap();
}

fn md5(bytes: &[u8]) -> String {
    use md5::Digest;
    md5::Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
