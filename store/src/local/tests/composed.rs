//! Parts that are put together from other files, on whatever file system the temporary folder is.

use super::*;

const BLOCK: usize = 4096;

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i * 31) >> 3) as u8).collect()
}

async fn source(store: &Local, at: &Location, bytes: Vec<u8>) -> Pin {
    store.put(at, bytes.into()).await.unwrap();
    store.head(at).await.unwrap().pin
}

fn copy(from: &Location, range: std::ops::Range<usize>, pin: &Pin) -> Chunk {
    Chunk::Copy { from: from.clone(), range: range.start as u64..range.end as u64, pin: pin.clone() }
}

const FIRST: PartSlot = PartSlot { number: 0, offset: 0 };

/// Without a whole block in its place there is nothing to share, so every file system does it.
#[tokio::test]
async fn pieces_that_share_no_block_are_copied_everywhere() {
    let (_dir, root) = place();
    let (store, from, at) = (Local::new(), root.join("base").unwrap(), root.join("out").unwrap());
    let bytes = content(3 << 20);
    let pin = source(&store, &from, bytes.clone()).await;
    let chunks = vec![
        Chunk::Bytes("head".into()),
        copy(&from, 5..2_500_000, &pin),
        copy(&from, 9..9, &pin),
        copy(&from, bytes.len() - 100..bytes.len(), &pin),
        Chunk::Bytes("tail".into()),
    ];
    let expected = [b"head", &bytes[5..2_500_000], &bytes[bytes.len() - 100..], b"tail"].concat();
    let size = expected.len() as u64;
    let upload = store.begin(&at, size).await.unwrap();
    let part = store.compose_part(&at, &upload, FIRST, chunks.clone()).await.unwrap();
    assert!(store.may_be_part(FIRST, size, &part));
    store.complete(&at, Completion { upload: &upload, parts: &[(0, part)], size }).await.unwrap();
    assert!(store.get(&at, size).await.unwrap().0 == expected);

    let upload = store.begin(&at, size - 1).await.unwrap();
    let error = store.compose_part(&at, &upload, FIRST, chunks).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permanent, "{}", error.chain());
    assert!(error.to_string().contains("does not fit"), "{error}");
}

/// What a store says of itself holds for whole blocks: they are shared, or the caller reads them.
#[tokio::test]
async fn whole_blocks_are_shared_or_refused() {
    let (dir, root) = place();
    let (store, from, at) = (Local::new(), root.join("base").unwrap(), root.join("out").unwrap());
    let pin = source(&store, &from, content(8 * BLOCK)).await;
    let offered = store.copies(&from, &at).await.unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the trial leaves nothing");
    let upload = store.begin(&at, 8 * BLOCK as u64).await.unwrap();
    let beyond = store.compose_part(&at, &upload, FIRST, vec![copy(&from, BLOCK..9 * BLOCK, &pin)]).await;
    assert_eq!(beyond.unwrap_err().kind(), ErrorKind::ShortRead);
    match store.compose_part(&at, &upload, FIRST, vec![copy(&from, 0..8 * BLOCK, &pin)]).await {
        Ok(_) => assert_eq!(offered, Copies::Pieces { block: BLOCK as u64 }),
        Err(e) => {
            assert!(matches!(offered, Copies::None { .. }), "{offered:?} and then {}", e.chain());
            assert_eq!(e.kind(), ErrorKind::Unsupported, "{}", e.chain());
        }
    }
}

#[tokio::test]
async fn a_source_is_held_to_its_version_and_its_length() {
    let (dir, root) = place();
    let (store, from, at) = (Local::new(), root.join("base").unwrap(), root.join("out").unwrap());
    let pin = source(&store, &from, content(10_000)).await;
    let upload = store.begin(&at, 100).await.unwrap();
    let compose = async |range| store.compose_part(&at, &upload, FIRST, vec![copy(&from, range, &pin)]).await;
    compose(1..101).await.unwrap();
    assert_eq!(compose(9_950..10_001).await.unwrap_err().kind(), ErrorKind::ShortRead);
    let file = File::options().write(true).open(dir.path().join("base")).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(5)).unwrap();
    assert_eq!(compose(1..101).await.unwrap_err().kind(), ErrorKind::Changed, "through the handle that was kept");
    fs::remove_file(dir.path().join("base")).unwrap();
    assert_eq!(compose(1..101).await.unwrap_err().kind(), ErrorKind::NotFound);
    let elsewhere = copy(&"s3://bucket/x".parse().unwrap(), 0..1, &pin);
    let error = store.compose_part(&at, &upload, FIRST, vec![elsewhere]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(matches!(store.copies(&"s3://bucket/x".parse().unwrap(), &at).await.unwrap(), Copies::None { .. }));
}

#[tokio::test]
async fn nothing_is_copied_over_a_fence() {
    let (dir, root) = place();
    for name in ["allowed", "secret"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("x"), content(100)).unwrap();
    }
    symlink("../secret/x", dir.path().join("allowed/link")).unwrap();
    let (inside, outside) = (root.join("allowed").unwrap(), root.join("secret").unwrap());
    let store = Local::within(Fence::new(std::slice::from_ref(&inside)));
    let pin = Local::new().head(&outside.join("x").unwrap()).await.unwrap().pin;
    let at = inside.join("out").unwrap();
    let upload = store.begin(&at, 10).await.unwrap();
    for from in [outside.join("x").unwrap(), inside.join("link").unwrap()] {
        let composed = store.compose_part(&at, &upload, FIRST, vec![copy(&from, 1..11, &pin)]).await;
        assert_eq!(composed.unwrap_err().kind(), ErrorKind::NotAllowed, "{from}");
        assert_eq!(store.copies(&from, &at).await.unwrap_err().kind(), ErrorKind::NotAllowed, "{from}");
    }
    let within = inside.join("x").unwrap();
    let pin = store.head(&within).await.unwrap().pin;
    store.compose_part(&at, &upload, FIRST, vec![copy(&within, 1..11, &pin)]).await.unwrap();
    let to = outside.join("out").unwrap();
    assert_eq!(store.copies(&within, &to).await.unwrap_err().kind(), ErrorKind::NotAllowed);
    let refused = store.compose_part(&to, &upload, FIRST, vec![copy(&within, 1..11, &pin)]).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotAllowed);
}
