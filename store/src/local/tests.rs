use std::fs::{self, File};
use std::num::NonZeroU64;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::conformance;
use crate::fault::Faulty;
use crate::store::EntryKind;
use crate::throttle::Throttled;

mod composed;
mod crash;
mod full_disk;
mod sharing;

fn place() -> (tempfile::TempDir, Location) {
    let dir = tempfile::tempdir().unwrap();
    let at = Location::at_path(dir.path()).unwrap();
    (dir, at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let (_dir, root) = place();
    conformance::run(Arc::new(Local::new()), root.join("suite").unwrap()).await;
    assert_eq!(fs::read_dir(path(&root).unwrap()).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_throttled() {
    let (_dir, root) = place();
    let store = Throttled::new(Arc::new(Local::new()), NonZeroU64::new(1 << 30).unwrap());
    conformance::run(Arc::new(store), root.join("suite").unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_no_faults_planned() {
    let (_dir, root) = place();
    conformance::run(Arc::new(Faulty::new(Arc::new(Local::new()))), root.join("suite").unwrap()).await;
}

#[tokio::test]
async fn a_rewrite_in_place_is_a_change() {
    let (dir, root) = place();
    let (store, at) = (Local::new(), root.join("base").unwrap());
    fs::write(dir.path().join("base"), [1; 1000]).unwrap();
    let pin = store.head(&at).await.unwrap().pin;
    store.read(&at, 0, vec![0; 10], Some(&pin)).await.unwrap();
    let file = File::options().write(true).open(dir.path().join("base")).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    file.set_modified(later).unwrap();
    let error = store.read(&at, 0, vec![0; 10], Some(&pin)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "also through the handle that was kept");
    file.set_len(5).unwrap();
    let error = store.read(&at, 0, vec![0; 10], Some(&pin)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "not a short read: the file is another one");
}

#[tokio::test]
async fn a_file_replaced_by_another_program_is_a_change() {
    let (dir, root) = place();
    let (store, at) = (Local::new(), root.join("base").unwrap());
    fs::write(dir.path().join("base"), [1; 1000]).unwrap();
    let pin = store.head(&at).await.unwrap().pin;
    store.read(&at, 0, vec![0; 10], Some(&pin)).await.unwrap();
    fs::write(dir.path().join("new"), [2; 1000]).unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("base")).unwrap();
    let error = store.read(&at, 0, vec![0; 10], Some(&pin)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert!(error.to_string().contains(pin.as_str()), "{error}");
}

#[tokio::test]
async fn only_regular_files_are_objects() {
    let (dir, root) = place();
    let store = Local::new();
    fs::create_dir(dir.path().join("folder")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for name in ["folder", "pipe"] {
        let at = root.join(name).unwrap();
        assert_eq!(store.head(&at).await.unwrap_err().kind(), ErrorKind::Permanent, "{name}");
        let read = store.read(&at, 0, vec![0; 1], None).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Permanent, "{name}");
    }
    assert!(store.begin(&root.join("folder").unwrap(), 1).await.is_err());
    assert!(store.put(&root.join("folder").unwrap(), "x".into()).await.is_err());
    assert!(store.list(&root).await.unwrap().iter().all(|e| e.kind != EntryKind::File));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "a refused write leaves nothing");
}

#[tokio::test]
async fn links_to_files_are_listed_as_files_and_broken_ones_with_their_target() {
    let (dir, root) = place();
    fs::create_dir_all(dir.path().join("blobs")).unwrap();
    fs::create_dir_all(dir.path().join("snapshot/sub")).unwrap();
    fs::write(dir.path().join("blobs/abc"), [0; 7]).unwrap();
    symlink("../blobs/abc", dir.path().join("snapshot/model.safetensors")).unwrap();
    symlink("nowhere", dir.path().join("snapshot/broken")).unwrap();
    symlink("..", dir.path().join("snapshot/sub/up")).unwrap();
    symlink("snapshot", dir.path().join("main")).unwrap();
    let store = Local::new();
    let expected = [
        Entry { name: "broken".into(), size: 0, kind: unreadable("is a link to nowhere, which is not there") },
        Entry::file("model.safetensors", 7),
        Entry { name: "sub/up".into(), size: 0, kind: EntryKind::Alias(".".into()) },
    ];
    for name in ["snapshot", "main"] {
        assert_eq!(store.list(&root.join(name).unwrap()).await.unwrap(), expected, "{name}");
    }
    let error = store.list(&root.join("blobs/abc").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permanent);
    store.delete_tree(&root.join("snapshot").unwrap()).await.unwrap();
    assert!(dir.path().join("blobs/abc").exists(), "links are removed, not followed");
}

/// As `cp -a` and `rsync -a` make it: equal size and time, and another file.
#[tokio::test]
async fn a_merge_that_is_planned_reads_the_file_that_an_equal_copy_replaced() {
    let (dir, root) = place();
    let (at, file) = (root.join("x").unwrap(), dir.path().join("x"));
    let store = Local::new();
    let write = |path: &Path| {
        fs::write(path, "equal").unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    write(&file);
    let pin = store.head(&at).await.unwrap().pin;
    store.read(&at, 0, vec![0; 5], Some(&pin)).await.unwrap();
    write(&dir.path().join("copy"));
    fs::rename(dir.path().join("copy"), &file).unwrap();
    let error = store.read(&at, 0, vec![0; 5], Some(&pin)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "a merge under way does not go on with another file");
    store.read(&at, 0, vec![0; 5], Some(&pin)).await.unwrap();
    write(&dir.path().join("copy"));
    fs::rename(dir.path().join("copy"), &file).unwrap();
    assert_eq!(store.head(&at).await.unwrap().pin, pin, "a new merge looks first");
    assert_eq!(store.read(&at, 0, vec![0; 5], Some(&pin)).await.unwrap(), b"equal");
}

fn unreadable(why: &str) -> EntryKind {
    EntryKind::Unreadable(why.to_owned())
}

#[tokio::test]
async fn links_to_folders_are_entered_once_and_never_in_a_circle() {
    let (dir, root) = place();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("elsewhere/deep")).unwrap();
    fs::write(at("elsewhere/deep/weights.bin"), [0; 3]).unwrap();
    symlink("../../model", at("elsewhere/deep/back")).unwrap();
    fs::create_dir_all(at("model/z_own")).unwrap();
    fs::write(at("model/z_own/own.bin"), [0; 2]).unwrap();
    symlink("z_own", at("model/a_link_to_own")).unwrap();
    symlink("../elsewhere", at("model/one")).unwrap();
    symlink("../elsewhere", at("model/two")).unwrap();
    symlink("loop", at("model/loop")).unwrap();
    let alias = |name: &str, of: &str| Entry { name: name.into(), size: 0, kind: EntryKind::Alias(of.into()) };
    let expected = [
        alias("a_link_to_own", "z_own"),
        Entry { name: "loop".into(), size: 0, kind: unreadable("is a link to loop that leads in a circle") },
        alias("one/deep/back", "."),
        Entry::file("one/deep/weights.bin", 3),
        alias("two", "one"),
        Entry::file("z_own/own.bin", 2),
    ];
    assert_eq!(Local::new().list(&root.join("model").unwrap()).await.unwrap(), expected);
}

#[tokio::test]
async fn a_listing_within_a_fence_tells_nothing_of_what_lies_outside() {
    let (dir, root) = place();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("secret/deep")).unwrap();
    fs::write(at("secret/deep/key"), [0; 3]).unwrap();
    fs::create_dir_all(at("model/own")).unwrap();
    fs::write(at("model/own/x"), [0; 2]).unwrap();
    symlink("own", at("model/within")).unwrap();
    symlink("../secret", at("model/folder")).unwrap();
    symlink("../secret/deep/key", at("model/file")).unwrap();
    let model = root.join("model").unwrap();
    let outside = "is a link to a folder outside of those that are allowed here, which is not followed";
    let folder = Entry { name: "folder".into(), size: 0, kind: unreadable(outside) };
    let expected = [Entry::file("file", 0), folder, Entry::file("own/x", 2)];
    let fenced = Local::within(Fence::new(std::slice::from_ref(&model)));
    let listed = fenced.list(&model).await.unwrap();
    let without_alias: Vec<Entry> = listed.into_iter().filter(|e| !matches!(e.kind, EntryKind::Alias(_))).collect();
    assert_eq!(without_alias, expected);
    let refused = fenced.head(&model.join("file").unwrap()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotAllowed);
}

#[tokio::test]
async fn a_seventeenth_link_on_a_path_is_named_and_not_followed() {
    let (dir, root) = place();
    for i in 0..18 {
        fs::create_dir(dir.path().join(format!("d{i}"))).unwrap();
        fs::write(dir.path().join(format!("d{i}/f")), "").unwrap();
        symlink(format!("../d{}", i + 1), dir.path().join(format!("d{i}/n"))).unwrap();
    }
    let listed = Local::new().list(&root.join("d0").unwrap()).await.unwrap();
    let files = listed.iter().filter(|e| e.kind == EntryKind::File).count();
    let last = format!("{}n", "n/".repeat(16));
    let odd: Vec<&Entry> = listed.iter().filter(|e| e.kind != EntryKind::File).collect();
    assert_eq!((files, odd.len(), odd[0].name.as_str()), (17, 1, last.as_str()));
    assert_eq!(odd[0].kind, unreadable("is a link to a folder behind 16 other links, which is not followed"));
}

#[tokio::test]
async fn what_is_no_file_is_listed_with_the_reason() {
    let (dir, root) = place();
    fs::write(dir.path().join("plain"), "x").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let odd = std::os::unix::ffi::OsStrExt::from_bytes(&b"odd\xff"[..]);
    fs::write(dir.path().join::<&std::ffi::OsStr>(odd), "x").unwrap();
    let expected = [
        Entry { name: "odd\u{fffd}".into(), size: 0, kind: unreadable("has a name that is not UTF-8") },
        Entry { name: "pipe".into(), size: 0, kind: unreadable("is not a regular file") },
        Entry::file("plain", 1),
    ];
    assert_eq!(Local::new().list(&root).await.unwrap(), expected);
}

#[tokio::test]
async fn the_root_and_nameless_paths_are_not_removed() {
    let store = Local::new();
    for text in ["/", "/tmp/.."] {
        let at: Location = text.parse().unwrap();
        assert_eq!(store.delete_tree(&at).await.unwrap_err().kind(), ErrorKind::Permanent);
        assert_eq!(store.put(&at, "x".into()).await.unwrap_err().kind(), ErrorKind::Permanent);
        assert_eq!(store.begin(&at, 1).await.unwrap_err().kind(), ErrorKind::Permanent);
    }
}
