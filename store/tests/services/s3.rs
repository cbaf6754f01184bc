//! S3, as SeaweedFS speaks it.

use shardfuse_store::{Completion, ErrorKind, Location, PartId, PartSlot, Store, UploadId, conformance};

use crate::place::{content, fresh, s3, s3_with, stores, told};

const PART: usize = 5 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn seaweedfs_conforms() {
    let (stores, root) = s3();
    conformance::run(stores.open(&root), fresh(&root, "suite")).await;
}

#[tokio::test]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn wrong_keys_are_refused_for_good_and_clearly() {
    let endpoint = told("SHARDFUSE_TEST_S3_ENDPOINT");
    for (key, secret) in [
        ("SHARDFUSE_TEST_S3_KEY", "SHARDFUSE_TEST_WRONG_KEY"),
        ("SHARDFUSE_TEST_WRONG_KEY", "SHARDFUSE_TEST_S3_SECRET"),
    ] {
        let (stores, root) = s3_with(&endpoint, key, secret);
        let (store, at) = (stores.open(&root), fresh(&root, "wrong-keys"));
        for error in [
            store.list(&at).await.unwrap_err(),
            store.put(&at, "x".into()).await.unwrap_err(),
            store.read(&at, 0, vec![0; 1], None).await.unwrap_err(),
            store.begin(&at, 1).await.unwrap_err(),
            store.check_output(&at).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Permission, "{}", error.chain());
            assert!(error.chain().contains("403"), "{}", error.chain());
            assert!(!error.chain().contains(&told("SHARDFUSE_TEST_S3_SECRET")), "{}", error.chain());
        }
    }
}

#[tokio::test]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn a_reader_reads_and_is_no_place_for_an_output() {
    let (stores, root) = s3();
    let (store, dir) = (stores.open(&root), fresh(&root, "reader"));
    let at = dir.join("base").unwrap();
    store.put(&at, "bytes".into()).await.unwrap();
    let endpoint = told("SHARDFUSE_TEST_S3_ENDPOINT");
    let (reading, _) = s3_with(&endpoint, "SHARDFUSE_TEST_S3_READER", "SHARDFUSE_TEST_S3_SECRET");
    let reader = reading.open(&root);
    assert_eq!(&reader.get(&at, 9).await.unwrap().0[..], b"bytes");
    assert_eq!(reader.check_output(&dir).await.unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(reader.create(&at, "x".into()).await.unwrap_err().kind(), ErrorKind::Permission);
    store.delete_tree(&dir).await.unwrap();
}

#[tokio::test]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn a_missing_bucket_is_named() {
    let endpoint = told("SHARDFUSE_TEST_S3_ENDPOINT");
    let stores = stores(&format!(
        "s3://no-such-bucket: {{ endpoint: \"{endpoint}\", allow_http: true, credentials: {{ env: {{ access_key_id: \
         SHARDFUSE_TEST_S3_KEY, secret_access_key: SHARDFUSE_TEST_S3_SECRET }} }} }}"
    ));
    let at: Location = "s3://no-such-bucket/x".parse().unwrap();
    let store = stores.open(&at);
    // Reading only: SeaweedFS makes a bucket that an administrator writes to.
    for error in [store.list(&at).await.unwrap_err(), store.read(&at, 0, vec![0; 1], None).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NoBucket, "{}", error.chain());
        assert!(error.hint().unwrap().contains("there is no \"no-such-bucket\""), "{error}");
    }
}

/// A long read is several requests, which must see one version and land in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn a_long_read_is_put_together_from_ranges() {
    let (stores, root) = s3();
    let (store, dir) = (stores.open(&root), fresh(&root, "long"));
    let at = dir.join("weights").unwrap();
    let bytes = content(5, (40 << 20) + 123);
    store.put(&at, bytes.clone().into()).await.unwrap();
    let pin = store.head(&at).await.unwrap().pin;
    for pin in [None, Some(&pin)] {
        let read = store.read(&at, 7, vec![0; bytes.len() - 7], pin).await.unwrap();
        assert!(read == bytes[7..]);
        let error = store.read(&at, 7, vec![0; bytes.len()], pin).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ShortRead, "{}", error.chain());
    }
    store.put(&at, content(6, bytes.len()).into()).await.unwrap();
    let error = store.read(&at, 0, vec![0; bytes.len()], Some(&pin)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{}", error.chain());
    store.delete_tree(&dir).await.unwrap();
}

async fn one_part(store: &dyn Store, at: &Location, upload: &UploadId, bytes: Vec<u8>) -> Vec<(u32, PartId)> {
    let slot = PartSlot { number: 0, offset: 0 };
    vec![(0, store.put_part(at, upload, slot, bytes.into()).await.unwrap())]
}

/// An upload that expired, over an older object of the same length: that object is not its result.
#[tokio::test]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn a_lost_upload_is_not_taken_for_an_older_object() {
    let (stores, root) = s3();
    let (store, dir) = (stores.open(&root), fresh(&root, "older"));
    let at = dir.join("weights").unwrap();
    store.put(&at, content(1, PART).into()).await.unwrap();
    let upload = store.begin(&at, PART as u64).await.unwrap();
    let parts = one_part(&*store, &at, &upload, content(2, PART)).await;
    store.abort(&at, &upload).await.unwrap();
    let error =
        store.complete(&at, Completion { upload: &upload, parts: &parts, size: PART as u64 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchUpload, "{}", error.chain());
    store.delete_tree(&dir).await.unwrap();
}

/// S3 can be asked for uploads in progress, so removing a folder ends those below it, and only those.
#[tokio::test]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn a_removed_folder_takes_its_uploads_along() {
    let (stores, root) = s3();
    let (store, dir) = (stores.open(&root), fresh(&root, "pending"));
    let (inside, beside) = (dir.join("out/a b+c").unwrap(), dir.join("out2").unwrap());
    let (gone, stays) = (store.begin(&inside, 1).await.unwrap(), store.begin(&beside, 1).await.unwrap());
    assert!(store.probe(&inside, &gone).await.unwrap());
    store.delete_tree(&dir.join("out").unwrap()).await.unwrap();
    assert!(!store.probe(&inside, &gone).await.unwrap());
    assert!(store.probe(&beside, &stays).await.unwrap());
    assert!(!store.probe(&inside, &stays).await.unwrap(), "an upload belongs to its path");
    store.abort(&beside, &stays).await.unwrap();
}

/// Keys may hold what a URL may not.
#[tokio::test]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn names_of_every_kind_are_kept() {
    let (stores, root) = s3();
    let (store, dir) = (stores.open(&root), fresh(&root, "names"));
    for name in ["a b", "a+b", "a%20b", "ä/ü", "x=1&y", "q?m", "h#h", "t~'()!*"] {
        let at = dir.join(name).unwrap();
        store.put(&at, name.to_owned().into()).await.unwrap();
        assert_eq!(&store.get(&at, 99).await.unwrap().0[..], name.as_bytes(), "{name}");
    }
    assert_eq!(store.list(&dir).await.unwrap().len(), 8);
    store.delete_tree(&dir).await.unwrap();
    assert_eq!(store.list(&dir).await.unwrap(), []);
}
