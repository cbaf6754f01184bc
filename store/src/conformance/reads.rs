//! Ranges, ends, and versions.

use super::check::{below, content, fails};
use crate::location::Location;
use crate::store::Store;

/// The objects that [`run_read_only`](super::run_read_only) reads, by name.
pub fn prepared() -> Vec<(&'static str, Vec<u8>)> {
    vec![(MODEL, content(1, SIZE)), (EMPTY, Vec::new())]
}

/// The object whose ranges are read, and its length.
pub(super) const MODEL: &str = "model.safetensors";
pub(super) const SIZE: usize = 100_000;
/// An object without bytes.
pub(super) const EMPTY: &str = "empty";

pub(super) async fn run(store: &dyn Store, root: &Location) {
    let at = below(root, MODEL);
    fails!(store.head(&at).await, NotFound, "head of nothing");
    fails!(store.read(&at, 0, vec![0; 1], None).await, NotFound, "read of nothing");
    for (name, bytes) in prepared() {
        store.put(&below(root, name), bytes.into()).await.unwrap();
    }
    prepared_reads(store, root).await;

    // Another length, so that the version differs even where times are coarse.
    let pin = store.head(&at).await.unwrap().pin;
    let newer = content(2, SIZE + 1);
    store.put(&at, newer.clone().into()).await.unwrap();
    let renewed = store.head(&at).await.unwrap();
    assert_ne!(renewed.pin, pin);
    fails!(store.read(&at, 0, vec![0; 10], Some(&pin)).await, Changed, "read of a replaced version");
    fails!(store.copy(&at, &below(root, "copy"), Some(&pin)).await, Changed, "copy of a replaced version");
    let buf = store.read(&at, 7, vec![0; 10], Some(&renewed.pin)).await.unwrap();
    assert_eq!(buf, newer[7..17]);
    store.delete(&at).await.unwrap();
    let gone = store.read(&at, 0, vec![0; 10], Some(&renewed.pin)).await;
    fails!(gone, NotFound, "read of a deleted object");
}

/// Reads of what [`prepared`] holds, laid out at `root` by whatever means.
pub(super) async fn prepared_reads(store: &dyn Store, root: &Location) {
    let nothing = below(root, "nothing");
    fails!(store.head(&nothing).await, NotFound, "head of nothing");
    fails!(store.read(&nothing, 0, vec![0; 1], None).await, NotFound, "read of nothing");

    let (at, bytes, size) = (below(root, MODEL), content(1, SIZE), SIZE as u64);
    let meta = store.head(&at).await.unwrap();
    assert_eq!(meta.size, size);
    assert_eq!(store.head(&at).await.unwrap(), meta, "the pin of an untouched object stays");

    for (offset, length) in [(0, SIZE), (0, 1), (size - 1, 1), (4095, 8193), (50_000, 0), (size, 0)] {
        for pin in [None, Some(&meta.pin)] {
            let buf = store.read(&at, offset, vec![0xEE; length], pin).await.unwrap();
            let from = usize::try_from(offset).unwrap();
            assert!(buf == bytes[from..from + length], "{length} bytes from {offset}");
        }
    }
    for (offset, length) in [(0, SIZE + 1), (size - 1, 2), (size, 1), (1 << 40, 1)] {
        for pin in [None, Some(&meta.pin)] {
            fails!(store.read(&at, offset, vec![0; length], pin).await, ShortRead, "read past the end");
        }
    }
    assert_eq!(store.get(&at, size).await.unwrap(), (bytes.into(), meta.clone()));
    fails!(store.get(&at, size - 1).await, Permanent, "more than the limit");

    let empty = below(root, EMPTY);
    assert_eq!(store.head(&empty).await.unwrap().size, 0);
    assert!(store.get(&empty, 0).await.unwrap().0.is_empty());
}
