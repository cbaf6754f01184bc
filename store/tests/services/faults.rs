//! SeaweedFS behind a proxy that spoils requests: what retries, resumed reads and repeated completions are for.

use shardfuse_store::{Completion, ErrorKind, Location, PartSlot, Stores, conformance};

use crate::place::{content, fresh, s3_at, told};
use crate::proxy::{Fault, Proxy};

const PART: usize = 5 << 20;

fn place(test: &str) -> (Proxy, Stores, Location) {
    let proxy = Proxy::before(&told("SHARDFUSE_TEST_S3_ENDPOINT"));
    let (stores, root) = s3_at(&proxy.endpoint());
    (proxy, stores, fresh(&root, test))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn the_suite_holds_while_requests_fail() {
    let (proxy, stores, root) = place("spoiled-suite");
    // What repeats without a trace. A create whose reply is lost is told as somebody else's, so creates only fail.
    for (every, method, count, fault) in [
        (3, "GET", 8, Fault::Reset),
        (4, "GET", 8, Fault::SlowDown),
        (5, "GET", 4, Fault::Short(100)),
        (3, "HEAD", 8, Fault::Reset),
        (5, "PUT", 8, Fault::SlowDown),
        (2, "POST", 4, Fault::LostReply),
        (2, "DELETE", 1, Fault::LostReply),
    ] {
        proxy.spoil_every(every, method, "/models", count, fault);
    }
    conformance::run(stores.open(&root), root).await;
    assert!(proxy.is_spent(), "every fault happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn a_read_goes_on_where_it_broke() {
    let (proxy, stores, root) = place("resumed");
    let (store, at) = (stores.open(&root), root.join("weights").unwrap());
    let bytes = content(1, 3 << 20);
    store.put(&at, bytes.clone().into()).await.unwrap();
    let pin = store.head(&at).await.unwrap().pin;
    proxy.spoil("GET", "weights", 2, Fault::Short(1 << 20));
    let read = store.read(&at, 0, vec![0; bytes.len()], Some(&pin)).await.unwrap();
    assert!(read == bytes);
    assert_eq!(proxy.count("GET", "weights"), 3, "two broken, one for the rest, none from the start");
    store.delete_tree(&root).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn a_completion_whose_reply_is_lost_is_recognised() {
    let (proxy, stores, root) = place("lost-reply");
    let (store, at) = (stores.open(&root), root.join("weights").unwrap());
    let whole = content(2, PART + 7);
    // Over an older object of the same length, from which it must be told apart.
    store.put(&at, content(3, whole.len()).into()).await.unwrap();
    let upload = store.begin(&at, whole.len() as u64).await.unwrap();
    let mut parts = Vec::new();
    for (number, piece) in (0u32..).zip(whole.chunks(PART)) {
        let slot = PartSlot { number, offset: u64::from(number) * PART as u64 };
        parts.push((number, store.put_part(&at, &upload, slot, piece.to_vec().into()).await.unwrap()));
    }
    proxy.spoil("POST", "uploadId", 1, Fault::LostReply);
    store.complete(&at, Completion { upload: &upload, parts: &parts, size: whole.len() as u64 }).await.unwrap();
    assert!(proxy.is_spent());
    assert!(store.get(&at, 1 << 30).await.unwrap().0 == whole);
    store.delete_tree(&root).await.unwrap();
}

/// The reply to a create is lost, and so it must not claim to have been first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn a_create_whose_reply_is_lost_claims_nothing() {
    let (proxy, stores, root) = place("lost-create");
    let (store, at) = (stores.open(&root), root.join("epoch").unwrap());
    proxy.spoil("PUT", "epoch", 1, Fault::LostReply);
    assert_eq!(store.create(&at, "mine".into()).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(&store.get(&at, 9).await.unwrap().0[..], b"mine");
    store.delete_tree(&root).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn an_expired_token_is_not_tried_again() {
    let (proxy, stores, root) = place("expired");
    let (store, at) = (stores.open(&root), root.join("x").unwrap());
    proxy.spoil("GET", "expired", 9, Fault::Expired);
    let error = store.read(&at, 0, vec![0; 1], None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.chain().contains("expired"), "{}", error.chain());
    assert_eq!(proxy.count("GET", "expired"), 1);
}
