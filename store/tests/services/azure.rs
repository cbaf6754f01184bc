//! Azure Blob Storage, as Azurite speaks it.

use shardfuse_store::{Completion, ErrorKind, Location, PartId, PartSlot, conformance};

use crate::place::{azure, content, fresh, s3, stores, told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Azurite: tests/services/run.sh"]
async fn azurite_conforms() {
    let (stores, root) = azure();
    conformance::run(stores.open(&root), fresh(&root, "suite")).await;
}

#[tokio::test]
#[ignore = "needs Azurite: tests/services/run.sh"]
async fn wrong_keys_and_missing_containers_are_refused_clearly() {
    let endpoint = told("SHARDFUSE_TEST_AZURE_ENDPOINT");
    let at: Location = format!("az://{}/x", told("SHARDFUSE_TEST_AZURE_CONTAINER")).parse().unwrap();
    let token = stores(&format!(
        "az://{}: {{ endpoint: \"{endpoint}\", allow_http: true, account: devstoreaccount1, credentials: {{ env: {{ \
         account_key: SHARDFUSE_TEST_WRONG_KEY }} }} }}",
        at.authority()
    ));
    let error = token.open(&at).list(&at).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission, "{}", error.chain());

    let missing = stores(&format!(
        "az://no-such-container: {{ endpoint: \"{endpoint}\", allow_http: true, account: devstoreaccount1, \
         credentials: {{ env: {{ account_key: SHARDFUSE_TEST_AZURE_KEY }} }} }}"
    ));
    let at: Location = "az://no-such-container/x".parse().unwrap();
    for error in
        [missing.open(&at).list(&at).await.unwrap_err(), missing.open(&at).put(&at, "x".into()).await.unwrap_err()]
    {
        assert_eq!(error.kind(), ErrorKind::NoBucket, "{}", error.chain());
        assert!(error.hint().unwrap().contains("there is no \"no-such-container\""), "{error}");
    }
}

/// What a crash between the commit of a block list and the removal of its mark leaves is a completed upload.
#[tokio::test]
#[ignore = "needs Azurite: tests/services/run.sh"]
async fn a_commit_that_was_not_tidied_up_is_recognised() {
    let (stores, root) = azure();
    let (store, dir) = (stores.open(&root), fresh(&root, "untidy"));
    let at = dir.join("weights").unwrap();
    let bytes = content(1, 100_000);
    let upload = store.begin(&at, 100_000).await.unwrap();
    let put = store.put_part(&at, &upload, PartSlot { number: 0, offset: 0 }, bytes.clone().into()).await.unwrap();
    let parts: Vec<(u32, PartId)> = vec![(0, put)];
    let id = upload.as_str().split_once('.').unwrap().1;
    let mark = dir.join(&format!(".shardfuse/upload/weights.{id}")).unwrap();
    let (text, _) = store.get(&mark, 100).await.unwrap();
    store.complete(&at, Completion { upload: &upload, parts: &parts, size: 100_000 }).await.unwrap();
    store.put(&mark, text).await.unwrap();
    assert!(store.probe(&at, &upload).await.unwrap());
    store.complete(&at, Completion { upload: &upload, parts: &parts, size: 100_000 }).await.unwrap();
    assert!(!store.probe(&at, &upload).await.unwrap());
    assert!(store.get(&at, 1 << 20).await.unwrap().0 == bytes);
    store.delete_tree(&dir).await.unwrap();
}

/// From S3 to Azure to a file, in one piece and in several, held to a pin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SeaweedFS and Azurite: tests/services/run.sh"]
async fn copies_go_from_any_store_to_any_other() {
    let ((s3, s3_root), (azure, azure_root)) = (s3(), azure());
    let endpoints = format!(
        "{s3_root}: {{ endpoint: \"{}\", allow_http: true, credentials: {{ env: {{ access_key_id: SHARDFUSE_TEST_S3_KEY, \
         secret_access_key: SHARDFUSE_TEST_S3_SECRET }} }} }}\n{azure_root}: {{ endpoint: \"{}\", allow_http: true, \
         account: devstoreaccount1, credentials: {{ env: {{ account_key: SHARDFUSE_TEST_AZURE_KEY }} }} }}",
        told("SHARDFUSE_TEST_S3_ENDPOINT"),
        told("SHARDFUSE_TEST_AZURE_ENDPOINT")
    );
    let both = stores(&endpoints);
    let folder = tempfile::tempdir().unwrap();
    for length in [1000, (17 << 20) + 5] {
        let bytes = content(length as u64, length);
        let first = fresh(&s3_root, "copies").join("x").unwrap();
        let second = fresh(&azure_root, "copies").join("x").unwrap();
        let third = Location::at_path(&folder.path().join("x")).unwrap();
        s3.open(&first).put(&first, bytes.clone().into()).await.unwrap();
        let pin = s3.open(&first).head(&first).await.unwrap().pin;
        both.copy(&first, &second, Some(&pin)).await.unwrap();
        assert!(azure.open(&second).get(&second, 1 << 30).await.unwrap().0 == bytes);
        both.copy(&second, &third, None).await.unwrap();
        assert!(both.open(&third).get(&third, 1 << 30).await.unwrap().0 == bytes);
        s3.open(&first).put(&first, "newer".into()).await.unwrap();
        let error = both.copy(&first, &second, Some(&pin)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed, "{}", error.chain());
        s3.open(&first).delete(&first).await.unwrap();
        azure.open(&second).delete(&second).await.unwrap();
    }
}
