//! Ranges, ends, and versions.

use super::{below, content, fails};
use crate::location::Location;
use crate::store::Store;

pub(super) async fn run(store: &dyn Store, root: &Location) {
    let at = below(root, "model.safetensors");
    fails!(store.head(&at).await, NotFound, "head of nothing");
    fails!(store.read(&at, 0, vec![0; 1], None).await, NotFound, "read of nothing");

    let bytes = content(1, 100_000);
    store.put(&at, bytes.clone().into()).await.unwrap();
    let meta = store.head(&at).await.unwrap();
    assert_eq!(meta.size, 100_000);
    assert_eq!(store.head(&at).await.unwrap(), meta, "the pin of an untouched object stays");

    for (offset, length) in [(0, 100_000), (0, 1), (99_999, 1), (4095, 8193), (50_000, 0), (100_000, 0)] {
        for pin in [None, Some(&meta.pin)] {
            let buf = store.read(&at, offset, vec![0xEE; length], pin).await.unwrap();
            let from = usize::try_from(offset).unwrap();
            assert!(buf == bytes[from..from + length], "{length} bytes from {offset}");
        }
    }
    for (offset, length) in [(0, 100_001), (99_999, 2), (100_000, 1), (1 << 40, 1)] {
        for pin in [None, Some(&meta.pin)] {
            fails!(store.read(&at, offset, vec![0; length], pin).await, ShortRead, "read past the end");
        }
    }

    assert_eq!(store.get(&at, 100_000).await.unwrap(), (bytes.into(), meta.clone()));
    fails!(store.get(&at, 99_999).await, Permanent, "more than the limit");

    // Another length, so that the version differs even where times are coarse.
    let newer = content(2, 100_001);
    store.put(&at, newer.clone().into()).await.unwrap();
    let renewed = store.head(&at).await.unwrap();
    assert_ne!(renewed.pin, meta.pin);
    fails!(store.read(&at, 0, vec![0; 10], Some(&meta.pin)).await, Changed, "read of a replaced version");
    fails!(store.copy(&at, &below(root, "copy"), Some(&meta.pin)).await, Changed, "copy of a replaced version");
    let buf = store.read(&at, 7, vec![0; 10], Some(&renewed.pin)).await.unwrap();
    assert_eq!(buf, newer[7..17]);
    store.delete(&at).await.unwrap();
    let gone = store.read(&at, 0, vec![0; 10], Some(&renewed.pin)).await;
    fails!(gone, NotFound, "read of a deleted object");

    let empty = below(root, "empty");
    store.put(&empty, "".into()).await.unwrap();
    assert_eq!(store.head(&empty).await.unwrap().size, 0);
    assert!(store.get(&empty, 0).await.unwrap().0.is_empty());
}
