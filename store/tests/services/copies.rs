//! Parts that S3 servers copy by themselves, beyond what every store must do.

use shardfuse_store::{
    Chunk, Completion, Copies, Error, ErrorKind, Location, PartId, PartSlot, Pin, Result, Store, Stores, UploadId,
};

use crate::place::{content, fresh, s3, s3_with, stores, told};
use crate::versitygw;

const PART: usize = 5 << 20;

fn slot(number: u32) -> PartSlot {
    PartSlot { number, offset: u64::from(number) * PART as u64 }
}

fn copy(from: &Location, pin: &Pin) -> Vec<Chunk> {
    vec![Chunk::Copy { from: from.clone(), range: 1000..1000 + PART as u64, pin: pin.clone() }]
}

/// An object to copy from.
async fn source(store: &dyn Store, at: &Location) -> (Vec<u8>, Pin) {
    let bytes = content(31, 2 * PART + 1);
    store.put(at, bytes.clone().into()).await.unwrap();
    (bytes, store.head(at).await.unwrap().pin)
}

/// A copied part is the part that was put. Where it has the same id, the object has the ETag that its parts make, so a repeated
/// completion is recognised by that.
async fn a_copied_part_is_the_part_that_was_put((stores, root): (Stores, Location), same_id: bool) {
    let (store, dir) = (stores.open(&root), fresh(&root, "copied"));
    let (from, at) = (dir.join("base").unwrap(), dir.join("out").unwrap());
    let (bytes, pin) = source(&*store, &from).await;
    assert_eq!(store.copies(&from, &at).await.unwrap(), Copies::Parts { max: 5 << 30 });
    let upload = store.begin(&at, 2 * PART as u64).await.unwrap();
    let mut parts: Vec<(u32, PartId)> = Vec::new();
    for number in 0..2 {
        let put = store.put_part(&at, &upload, slot(number), bytes[1000..1000 + PART].to_vec().into()).await.unwrap();
        let copied = store.compose_part(&at, &upload, slot(number), copy(&from, &pin)).await.unwrap();
        assert_eq!(put == copied, same_id, "{put} and {copied}");
        parts.push((number, copied));
    }
    let what = Completion { upload: &upload, parts: &parts, size: 2 * PART as u64 };
    let made = store.complete(&at, what).await.unwrap();
    let again = store.complete(&at, what).await.unwrap();
    assert!(made.is_some() && again.as_ref().is_none_or(|again| Some(again) == made.as_ref()), "{again:?}");
    let whole = [&bytes[1000..1000 + PART], &bytes[1000..1000 + PART]].concat();
    assert!(store.get(&at, 1 << 30).await.unwrap().0 == whole);
    store.delete_tree(&dir).await.unwrap();
}

#[tokio::test]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn seaweedfs_copies_a_part_and_gives_it_another_etag() {
    a_copied_part_is_the_part_that_was_put(s3(), false).await;
}

#[tokio::test]
#[ignore = "needs versitygw: tests/services/run.sh"]
async fn versitygw_copies_a_part() {
    a_copied_part_is_the_part_that_was_put(versitygw::place(), true).await;
}

/// The credentials of the upload decide, so another bucket with the same settings is tried.
#[tokio::test]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn a_part_is_copied_from_another_bucket() {
    let endpoint = told("SHARDFUSE_TEST_S3_ENDPOINT");
    let entry = format!(
        "{{ endpoint: \"{endpoint}\", allow_http: true, region: us-east-1, credentials: {{ env: {{ access_key_id: \
         SHARDFUSE_TEST_S3_KEY, secret_access_key: SHARDFUSE_TEST_S3_SECRET }} }} }}"
    );
    let (_, root) = s3();
    let stores = stores(&format!("{root}: {entry}\ns3://bases: {entry}\ns3://no-such-bucket: {entry}"));
    // SeaweedFS makes a bucket that an administrator writes to.
    let bases: Location = "s3://bases".parse().unwrap();
    let (from, dir) = (fresh(&bases, "base"), fresh(&root, "from-another"));
    let (bytes, pin) = source(&*stores.open(&from), &from).await;
    let (store, at) = (stores.open(&root), dir.join("out").unwrap());
    let upload = store.begin(&at, PART as u64).await.unwrap();
    let part = store.compose_part(&at, &upload, slot(0), copy(&from, &pin)).await.unwrap();
    store.complete(&at, Completion { upload: &upload, parts: &[(0, part)], size: PART as u64 }).await.unwrap();
    assert!(store.get(&at, PART as u64).await.unwrap().0 == bytes[1000..1000 + PART]);

    let upload = store.begin(&at, PART as u64).await.unwrap();
    let nowhere: Location = "s3://no-such-bucket/x".parse().unwrap();
    let error = store.compose_part(&at, &upload, slot(0), copy(&nowhere, &pin)).await.unwrap_err();
    let kinds = [ErrorKind::NoBucket, ErrorKind::NotFound, ErrorKind::Unsupported];
    assert!(kinds.contains(&error.kind()), "{}", error.chain());
    stores.open(&from).delete(&from).await.unwrap();
    store.delete_tree(&dir).await.unwrap();
}

async fn refusal(
    (stores, root): (Stores, Location),
    at: &Location,
    upload: &UploadId,
    from: (&Location, &Pin),
) -> (Error, Result<PartId>) {
    let store = stores.open(&root);
    let composed = store.compose_part(at, upload, slot(0), copy(from.0, from.1)).await;
    (composed.unwrap_err(), store.put_part(at, upload, slot(0), content(1, PART).into()).await)
}

/// A key that may not write is refused the copy, and the put that follows says why. A key that is wrong fails as ever.
#[tokio::test]
#[ignore = "needs SeaweedFS: tests/services/run.sh"]
async fn a_refused_copy_is_told_from_wrong_keys() {
    let endpoint = told("SHARDFUSE_TEST_S3_ENDPOINT");
    let (stores, root) = s3();
    let (store, dir) = (stores.open(&root), fresh(&root, "refused"));
    let (from, at) = (dir.join("base").unwrap(), dir.join("out").unwrap());
    let (_, pin) = source(&*store, &from).await;
    let upload = store.begin(&at, PART as u64).await.unwrap();
    for (key, secret, kind) in [
        ("SHARDFUSE_TEST_S3_READER", "SHARDFUSE_TEST_S3_SECRET", ErrorKind::Unsupported),
        ("SHARDFUSE_TEST_S3_KEY", "SHARDFUSE_TEST_WRONG_KEY", ErrorKind::Permission),
        ("SHARDFUSE_TEST_WRONG_KEY", "SHARDFUSE_TEST_S3_SECRET", ErrorKind::Permission),
    ] {
        let (error, put) = refusal(s3_with(&endpoint, key, secret), &at, &upload, (&from, &pin)).await;
        assert_eq!(error.kind(), kind, "{key} {secret}: {}", error.chain());
        assert!(error.chain().contains("403"), "{}", error.chain());
        assert!(!error.chain().contains(&told("SHARDFUSE_TEST_S3_SECRET")), "{}", error.chain());
        assert_eq!(put.unwrap_err().kind(), ErrorKind::Permission, "{key} {secret}");
    }
    store.abort(&at, &upload).await.unwrap();
    store.delete_tree(&dir).await.unwrap();
}

#[tokio::test]
#[ignore = "needs versitygw: tests/services/run.sh"]
async fn versitygw_refuses_a_copy_with_wrong_keys() {
    let (stores, root) = versitygw::place();
    let (store, dir) = (stores.open(&root), fresh(&root, "wrong-keys"));
    let (from, at) = (dir.join("base").unwrap(), dir.join("out").unwrap());
    let (_, pin) = source(&*store, &from).await;
    let upload = store.begin(&at, PART as u64).await.unwrap();
    for (key, secret) in [
        ("SHARDFUSE_TEST_S3_KEY", "SHARDFUSE_TEST_WRONG_KEY"),
        ("SHARDFUSE_TEST_WRONG_KEY", "SHARDFUSE_TEST_S3_SECRET"),
    ] {
        let (error, put) = refusal(versitygw::place_with(key, secret), &at, &upload, (&from, &pin)).await;
        assert_eq!(error.kind(), ErrorKind::Permission, "{key} {secret}: {}", error.chain());
        assert_eq!(put.unwrap_err().kind(), ErrorKind::Permission, "{key} {secret}");
    }
    store.abort(&at, &upload).await.unwrap();
    store.delete_tree(&dir).await.unwrap();
}

/// rclone takes a copy for a part without bytes, answers with success, and takes no other bytes for that part.
#[tokio::test]
#[ignore = "needs rclone: tests/services/run.sh"]
async fn a_store_that_does_not_copy_is_noticed() {
    let endpoint = told("SHARDFUSE_TEST_RCLONE_ENDPOINT");
    let root = format!("s3://{}", told("SHARDFUSE_TEST_RCLONE_BUCKET"));
    let stores = stores(&format!(
        "{root}: {{ endpoint: \"{endpoint}\", allow_http: true, credentials: {{ env: {{ access_key_id: \
         SHARDFUSE_TEST_S3_KEY, secret_access_key: SHARDFUSE_TEST_S3_SECRET }} }} }}"
    ));
    let root: Location = root.parse().unwrap();
    let (store, dir) = (stores.open(&root), fresh(&root, "no-copies"));
    let (from, at) = (dir.join("base").unwrap(), dir.join("out").unwrap());
    let (bytes, pin) = source(&*store, &from).await;
    let upload = store.begin(&at, PART as u64).await.unwrap();
    let error = store.compose_part(&at, &upload, slot(0), copy(&from, &pin)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{}", error.chain());
    let part = store.put_part(&at, &upload, slot(0), bytes[1000..1000 + PART].to_vec().into()).await.unwrap();
    store.complete(&at, Completion { upload: &upload, parts: &[(0, part)], size: PART as u64 }).await.unwrap();
    // Of this object it reads no range, so its length must do.
    assert_eq!(store.head(&at).await.unwrap().size, PART as u64);
    store.delete_tree(&dir).await.unwrap();
}
