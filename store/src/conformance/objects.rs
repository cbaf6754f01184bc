//! Whole objects: written in one step, copied, listed, removed.

use std::sync::Arc;

use super::check::{below, content, fails};
use crate::location::Location;
use crate::store::{Entry, Store};

pub(super) async fn run(store: &Arc<dyn Store>, root: &Location) {
    atomic(store, &below(root, "atomic")).await;
    copies(&**store, &below(root, "copies")).await;
    listing(&**store, &below(root, "listing")).await;
    conditional_deletes(&**store, &below(root, "older/config.json")).await;
    assert_ne!(store.space(root).await.unwrap(), Some(0));
    assert_ne!(store.space(&below(root, "not/there/yet")).await.unwrap(), Some(0));
    store.check_output(root).await.unwrap();
    store.check_output(&below(root, "not/there/yet")).await.unwrap();
}

/// A reader sees one version or the other, whole, at any time.
async fn atomic(store: &Arc<dyn Store>, root: &Location) {
    let at = below(root, "index.json");
    // Each is another one than all before it, now longer and now shorter.
    let versions: Vec<Vec<u8>> = (0..=40usize).map(|i| content(i as u64, 50_000 + 20_000 * (i % 2))).collect();
    store.put(&at, versions[0].clone().into()).await.unwrap();
    let writer = tokio::spawn({
        let (store, at, versions) = (store.clone(), at.clone(), versions.clone());
        async move {
            for version in &versions[1..] {
                store.put(&at, version.clone().into()).await.unwrap();
            }
        }
    });
    let mut reads = 0;
    while !writer.is_finished() || reads == 0 {
        // A version that is replaced between two calls is no fault of the store.
        if let Ok((bytes, _)) = store.get(&at, 1 << 20).await {
            assert!(versions.iter().any(|version| *version == bytes), "a mixture of {} bytes", bytes.len());
            reads += 1;
        }
    }
    writer.await.unwrap();
    assert_eq!(store.list(root).await.unwrap().len(), 1, "writing leaves nothing beside the object");
    store.sweep(root).await.unwrap();
    assert_eq!(&store.get(&at, 1 << 20).await.unwrap().0[..], versions[40]);
}

async fn copies(store: &dyn Store, root: &Location) {
    let (from, to) = (below(root, "tokenizer.json"), below(root, "out/tokenizer.json"));
    fails!(store.copy(&from, &to, None).await, NotFound, "copy of nothing");
    let bytes = content(3, 3_000_000);
    store.put(&from, bytes.clone().into()).await.unwrap();
    store.put(&to, "older".into()).await.unwrap();
    let pin = store.head(&from).await.unwrap().pin;
    store.copy(&from, &to, Some(&pin)).await.unwrap();
    assert!(store.get(&to, 1 << 30).await.unwrap().0 == bytes);
    assert!(store.get(&from, 1 << 30).await.unwrap().0 == bytes);
}

/// Only the version that was looked at goes.
async fn conditional_deletes(store: &dyn Store, at: &Location) {
    store.put(at, "first".into()).await.unwrap();
    let first = store.head(at).await.unwrap().pin;
    store.put(at, "the second".into()).await.unwrap();
    let second = store.head(at).await.unwrap().pin;
    fails!(store.delete_if(at, &first).await, Changed, "delete of a version that was replaced");
    assert_eq!(&store.get(at, 100).await.unwrap().0[..], b"the second");
    assert_eq!(store.list(&at.parent().unwrap()).await.unwrap().len(), 1, "nothing is left beside it");
    store.delete_if(at, &second).await.unwrap();
    fails!(store.head(at).await, NotFound, "what was deleted");
    store.delete_if(at, &second).await.expect("deleting what is gone is fine");
}

async fn listing(store: &dyn Store, root: &Location) {
    assert_eq!(store.list(root).await.unwrap(), [], "a folder that is not there is empty");
    for (name, size) in [("b/c.json", 3), ("a", 1), ("b/a/deep", 4), ("b.json", 2), ("empty", 0), (".hidden", 5)] {
        store.put(&below(root, name), vec![0; size].into()).await.unwrap();
    }
    let listed =
        |names: &[(&str, u64)]| -> Vec<Entry> { names.iter().map(|(name, size)| Entry::file(*name, *size)).collect() };
    let all = listed(&[(".hidden", 5), ("a", 1), ("b.json", 2), ("b/a/deep", 4), ("b/c.json", 3), ("empty", 0)]);
    assert_eq!(store.list(root).await.unwrap(), all);
    let within = listed(&[("a/deep", 4), ("c.json", 3)]);
    assert_eq!(store.list(&below(root, "b")).await.unwrap(), within, "names are below the listed folder");

    store.remove_empty_dir(&below(root, "b/a")).await.expect("a folder that is not empty stays, silently");
    store.delete(&below(root, "b/a/deep")).await.unwrap();
    store.delete(&below(root, "b/a/deep")).await.expect("deleting twice is fine");
    store.remove_empty_dir(&below(root, "b/a")).await.unwrap();
    store.remove_empty_dir(&below(root, "b/a")).await.expect("removing twice is fine");
    assert_eq!(store.list(&below(root, "b")).await.unwrap(), listed(&[("c.json", 3)]));
    store.delete_tree(&below(root, "b")).await.unwrap();
    let rest = listed(&[(".hidden", 5), ("a", 1), ("b.json", 2), ("empty", 0)]);
    assert_eq!(store.list(root).await.unwrap(), rest);
}
