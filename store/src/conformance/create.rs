//! Create-if-absent.

use std::sync::Arc;

use super::check::{below, content, fails};
use crate::error::ErrorKind;
use crate::location::Location;
use crate::store::Store;

pub(super) async fn run(store: &Arc<dyn Store>, root: &Location) {
    let at = below(root, "plan");
    store.create(&at, "first".into()).await.unwrap();
    fails!(store.create(&at, "second".into()).await, AlreadyExists, "create over an object");
    fails!(store.create(&at, "first".into()).await, AlreadyExists, "create of the same again");
    assert_eq!(&store.get(&at, 100).await.unwrap().0[..], b"first");
    store.delete(&at).await.unwrap();
    store.create(&at, "third".into()).await.expect("a deleted name is free again");

    let trials = below(root, "trials");
    assert!(store.conditional_puts(&trials).await.unwrap(), "what holds here is what the store says of itself");
    assert_eq!(store.list(&trials).await.unwrap(), [], "asking leaves nothing");

    for round in 0..8 {
        race(store, &below(root, &format!("epoch/{round}"))).await;
    }
}

/// Of many at once exactly one wins, and no reader sees anything but its whole content.
async fn race(store: &Arc<dyn Store>, at: &Location) {
    const SIZE: usize = 20_000;
    let racers: Vec<_> = (0..24u64)
        .map(|i| {
            let (store, at) = (store.clone(), at.clone());
            tokio::spawn(async move { (i, store.create(&at, content(i, SIZE).into()).await) })
        })
        .collect();
    let seen = loop {
        match store.get(at, 1 << 20).await {
            Ok((bytes, _)) => break bytes,
            Err(e) => assert_eq!(e.kind(), ErrorKind::NotFound, "{e}"),
        }
    };
    let mut winners = Vec::new();
    for racer in racers {
        match racer.await.unwrap() {
            (i, Ok(())) => winners.push(i),
            (_, Err(e)) => assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e}"),
        }
    }
    assert_eq!(winners.len(), 1, "exactly one wins");
    assert!(seen == content(winners[0], SIZE), "the first that is seen is the winner's, whole");
    let now = store.get(at, 1 << 20).await.unwrap().0;
    assert!(now == seen, "and it stays");
}
