//! Stores that fall short: what is proved with them, and what they are the counterexample for.

use shardfuse_store::{ErrorKind, Location, conformance};

use crate::place::{content, fresh, stores, told};

/// rclone ignores the condition of a conditional put without a word; the probe must notice.
#[tokio::test]
#[ignore = "needs rclone: tests/services/run.sh"]
async fn a_store_that_ignores_conditions_is_noticed() {
    let endpoint = told("SHARDFUSE_TEST_RCLONE_ENDPOINT");
    let root = format!("s3://{}", told("SHARDFUSE_TEST_RCLONE_BUCKET"));
    let stores = stores(&format!(
        "{root}: {{ endpoint: \"{endpoint}\", allow_http: true, credentials: {{ env: {{ access_key_id: \
         SHARDFUSE_TEST_S3_KEY, secret_access_key: SHARDFUSE_TEST_S3_SECRET }} }} }}"
    ));
    let root: Location = root.parse().unwrap();
    let (store, dir) = (stores.open(&root), fresh(&root, "conditions"));
    assert!(!store.conditional_puts(&dir).await.unwrap());
    assert_eq!(store.list(&dir).await.unwrap(), [], "the trial leaves nothing");
}

/// fake-gcs-server answers Google's XML requests for reading only, so objects are put there by its JSON interface.
#[tokio::test]
#[ignore = "needs fake-gcs-server: tests/services/run.sh"]
async fn google_is_read() {
    let (endpoint, bucket) = (told("SHARDFUSE_TEST_GCS_ENDPOINT"), told("SHARDFUSE_TEST_GCS_BUCKET"));
    let bytes = content(4, 100_000);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for name in ["google/model.safetensors", "google/sub/config.json"] {
        let name = name.replace('/', "%2F");
        let url = format!("{endpoint}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}");
        let answer = client.post(url).body(bytes.clone()).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }
    let root = format!("gs://{bucket}");
    let stores = stores(&format!("{root}: {{ endpoint: \"{endpoint}\", allow_http: true, credentials: anonymous }}"));
    let dir: Location = format!("{root}/google").parse().unwrap();
    let (store, at) = (stores.open(&dir), dir.join("model.safetensors").unwrap());
    let names: Vec<String> = store.list(&dir).await.unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["model.safetensors", "sub/config.json"]);
    let meta = store.head(&at).await.unwrap();
    assert_eq!(meta.size, 100_000);
    let read = store.read(&at, 50_000, vec![0; 1000], Some(&meta.pin)).await.unwrap();
    assert!(read == bytes[50_000..51_000]);
    let error = store.read(&at, 99_999, vec![0; 2], Some(&meta.pin)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShortRead, "{}", error.chain());
    let missing = store.head(&dir.join("absent").unwrap()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{}", missing.chain());
}

/// Local files through the same suite as the object stores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs with the servers: tests/services/run.sh"]
async fn files_conform() {
    let folder = tempfile::tempdir().unwrap();
    let root = Location::at_path(&folder.path().join("suite")).unwrap();
    conformance::run(stores("{}").open(&root), root).await;
}
