//! What is found after somebody died, and writers that come too late.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::*;

const SLOT: PartSlot = PartSlot { number: 0, offset: 0 };

#[tokio::test]
async fn another_process_goes_on_with_an_upload() {
    let (_dir, root) = place();
    let at = root.join("model").unwrap();
    let upload = Local::new().begin(&at, 10).await.unwrap();
    let upload = UploadId::new(upload.as_str());
    let first = Local::new().put_part(&at, &upload, SLOT, "01234".into()).await.unwrap();
    let second = Local::new().put_part(&at, &upload, PartSlot { number: 1, offset: 5 }, "56789".into()).await.unwrap();
    let parts = [(0, PartId::new(first.as_str())), (1, second)];
    Local::new().complete(&at, Completion { upload: &upload, parts: &parts, size: 10 }).await.unwrap();
    assert_eq!(&Local::new().get(&at, 10).await.unwrap().0[..], b"0123456789");
}

#[tokio::test]
async fn beginning_again_drops_the_older_upload_of_that_path_only() {
    let (dir, root) = place();
    let (store, at, other) = (Local::new(), root.join("a").unwrap(), root.join("a.b").unwrap());
    let old = store.begin(&at, 10).await.unwrap();
    let kept = store.begin(&other, 10).await.unwrap();
    let new = store.begin(&at, 10).await.unwrap();
    assert!(!store.probe(&at, &old).await.unwrap());
    assert!(store.probe(&at, &new).await.unwrap());
    assert!(store.probe(&other, &kept).await.unwrap());
    assert_eq!(fs::read_dir(dir.path().join(".shardfuse/upload")).unwrap().count(), 2);
}

#[tokio::test]
async fn parts_must_fit_and_must_make_up_the_file() {
    let (_dir, root) = place();
    let (store, at) = (Local::new(), root.join("model").unwrap());
    let upload = store.begin(&at, 10).await.unwrap();
    for offset in [6, 10, u64::MAX] {
        let part = store.put_part(&at, &upload, PartSlot { number: 1, offset }, "56789".into()).await;
        assert_eq!(part.unwrap_err().kind(), ErrorKind::Permanent);
    }
    let a = store.put_part(&at, &upload, SLOT, "01234".into()).await.unwrap();
    let b = store.put_part(&at, &upload, PartSlot { number: 1, offset: 5 }, "56789".into()).await.unwrap();
    let (a, b) = ((0, a), (1, b));
    for parts in [vec![], vec![a.clone()], vec![b.clone()], vec![b.clone(), a.clone()], vec![a.clone(), a.clone()]] {
        let refused = store.complete(&at, Completion { upload: &upload, parts: &parts, size: 10 }).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidPart, "{parts:?}");
    }
    let second = PartSlot { number: 1, offset: 5 };
    assert!(store.may_be_part(second, 5, &b.1));
    for strange in ["18446744073709551615+5", "5", "05+5", "+5+5", "5+05", "", "5+5 ", "0+5", "5+6"] {
        let strange = PartId::new(strange);
        assert!(!store.may_be_part(second, 5, &strange), "{strange}");
    }
    let strange = (1, PartId::new("18446744073709551615+5"));
    let refused =
        store.complete(&at, Completion { upload: &upload, parts: &[a.clone(), strange], size: 10 }).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidPart);
    store.complete(&at, Completion { upload: &upload, parts: &[a, b], size: 10 }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completing_waits_for_a_writer_and_a_later_one_is_stale() {
    let (dir, root) = place();
    let (store, at) = (Arc::new(Local::new()), root.join("model").unwrap());
    let upload = store.begin(&at, 5).await.unwrap();
    let part = store.put_part(&at, &upload, SLOT, "01234".into()).await.unwrap();
    let hidden = fs::read_dir(dir.path().join(".shardfuse/upload")).unwrap().next().unwrap().unwrap().path();
    // A writer of another process, in the middle of its part.
    let writer = File::options().read(true).write(true).open(hidden).unwrap();
    writer.lock_shared().unwrap();
    let completing = tokio::spawn({
        let (store, at, upload) = (store.clone(), at.clone(), upload.clone());
        async move { store.complete(&at, Completion { upload: &upload, parts: &[(0, part)], size: 5 }).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!completing.is_finished());
    assert_eq!(store.head(&at).await.unwrap_err().kind(), ErrorKind::NotFound);
    drop(writer);
    completing.await.unwrap().unwrap();
    let stale = store.put_part(&at, &upload, SLOT, "xxxxx".into()).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::NoSuchUpload);
    assert_eq!(&store.get(&at, 5).await.unwrap().0[..], b"01234");
}

#[tokio::test]
async fn the_length_is_reserved_at_once_and_empty_files_work() {
    let (dir, root) = place();
    let (store, at) = (Local::new(), root.join("model").unwrap());
    store.begin(&at, 8 << 20).await.unwrap();
    let hidden = fs::read_dir(dir.path().join(".shardfuse/upload")).unwrap().next().unwrap().unwrap();
    let meta = hidden.metadata().unwrap();
    assert_eq!(meta.len(), 8 << 20);
    assert!(meta.blocks() * 512 >= 8 << 20, "{} blocks", meta.blocks());
    let upload = store.begin(&at, 0).await.unwrap();
    store.complete(&at, Completion { upload: &upload, parts: &[], size: 0 }).await.unwrap();
    assert_eq!(store.head(&at).await.unwrap().size, 0);
    assert!(!dir.path().join(".shardfuse").exists(), "the hidden folders go with the last upload");
}

#[tokio::test]
async fn leftovers_of_interrupted_writes_are_not_listed_and_are_swept() {
    let (dir, root) = place();
    let store = Local::new();
    fs::write(dir.path().join(".shardfuse-tmp-0123456789abcdef"), "half").unwrap();
    store.put(&root.join("config.json").unwrap(), "{}".into()).await.unwrap();
    assert_eq!(store.list(&root).await.unwrap().len(), 1);
    store.sweep(&root).await.unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    store.sweep(&root.join("not-there").unwrap()).await.unwrap();
}

/// Somebody empties the file, or appends to it: whoever puts the next part hears of it, and no such file is published.
#[tokio::test]
async fn an_upload_that_lost_its_length_is_gone() {
    for length in [0, 9, 11] {
        let dir = tempfile::tempdir().unwrap();
        let at = Location::at_path(&dir.path().join("model.safetensors")).unwrap();
        let store = Local::new();
        // Over an older file of the same length.
        store.put(&at, "older bits".into()).await.unwrap();
        let upload = store.begin(&at, 10).await.unwrap();
        let part = store.put_part(&at, &upload, SLOT, "0123456789".into()).await.unwrap();
        let hidden = fs::read_dir(dir.path().join(".shardfuse/upload")).unwrap().next().unwrap().unwrap().path();
        File::options().write(true).open(hidden).unwrap().set_len(length).unwrap();
        assert!(!store.probe(&at, &upload).await.unwrap(), "{length} bytes");
        let put = store.put_part(&at, &upload, SLOT, "0123456789".into()).await.unwrap_err();
        assert_eq!(put.kind(), ErrorKind::NoSuchUpload, "{put}");
        assert!(put.to_string().contains(&format!("has {length} bytes, not 10")), "{put}");
        // The older file has the length: the caller is told that nothing is known of what is there.
        assert_eq!(
            store.complete(&at, Completion { upload: &upload, parts: &[(0, part)], size: 10 }).await.unwrap(),
            None
        );
        assert_eq!(&store.get(&at, 99).await.unwrap().0[..], b"older bits");
        store.abort(&at, &upload).await.unwrap();
    }
}

/// Journals of an earlier version name uploads by a token alone.
#[tokio::test]
async fn an_upload_of_an_earlier_version_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let at = Location::at_path(&dir.path().join("x")).unwrap();
    let folder = dir.path().join(".shardfuse/upload");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("x.0123456789abcdef"), "01234").unwrap();
    let (store, upload) = (Local::new(), UploadId::new("0123456789abcdef"));
    assert!(store.probe(&at, &upload).await.unwrap());
    let part = store.put_part(&at, &upload, SLOT, "56789".into()).await.unwrap();
    store.complete(&at, Completion { upload: &upload, parts: &[(0, part)], size: 5 }).await.unwrap();
    for id in ["0123456789abcdef-05", "0123456789abcdef-", "0123456789abcdef-5-5", "-5", "0123456789abcdef-+5"] {
        assert!(!store.probe(&at, &UploadId::new(id)).await.unwrap(), "{id}");
    }
}
