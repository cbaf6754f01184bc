//! A full disk, on a file system small enough to fill.

use super::*;

/// Run as root:
/// ```sh
/// mkdir -p /mnt/small && mount -t tmpfs -o size=8m tmpfs /mnt/small
/// SHARDFUSE_SMALL_FS=/mnt/small cargo test -p shardfuse-store -- --ignored full_disk
/// umount /mnt/small
/// ```
#[tokio::test]
#[ignore = "needs a mounted tmpfs"]
async fn shows_before_the_work() {
    let mount = std::env::var("SHARDFUSE_SMALL_FS").expect("SHARDFUSE_SMALL_FS names an empty file system of 8 MiB");
    let root: Location = mount.parse().unwrap();
    let (store, at) = (Local::new(), root.join("out/model").unwrap());
    let free = store.space(&at).await.unwrap().unwrap();
    assert!((1 << 20..64 << 20).contains(&free), "{free} bytes are free");

    // Twice as much: root may go into blocks that are not free for others.
    let error = store.begin(&at, 2 * free).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.message().contains(&(2 * free).to_string()), "{error}");
    assert!(!root.join("out/.shardfuse").unwrap().local_path().unwrap().exists(), "nothing is left");
    assert!(store.space(&at).await.unwrap().unwrap() > free - (64 << 10), "and nothing taken");

    let upload = store.begin(&at, free / 2).await.unwrap();
    assert!(store.space(&at).await.unwrap().unwrap() <= free / 2);
    let big = vec![0; usize::try_from(free).unwrap()];
    for result in [
        store.put(&root.join("big").unwrap(), big.clone().into()).await,
        store.create(&root.join("big").unwrap(), big.into()).await,
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NoSpace);
    }
    let half = vec![7; usize::try_from(free / 2).unwrap()];
    let part = PartSlot { number: 0, offset: 0 };
    let id = store.put_part(&at, &upload, part, half.into()).await.expect("what is reserved can be written");
    store.complete(&at, Completion { upload: &upload, parts: &[(0, id)], size: free / 2 }).await.unwrap();
    store.delete_tree(&root.join("out").unwrap()).await.unwrap();
    assert_eq!(store.list(&root).await.unwrap(), []);
}
