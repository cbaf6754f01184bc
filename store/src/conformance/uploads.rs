//! Uploads: parts by many hands, and one step that makes them an object.

use std::sync::Arc;

use super::check::{below, content, fails};
use crate::error::{ErrorKind, Result};
use crate::id::{PartId, UploadId};
use crate::location::Location;
use crate::store::{Completion, PartSlot, Store};

/// As small as the smallest part of any store may be.
const PART: usize = 5 << 20;

pub(super) async fn run(store: &Arc<dyn Store>, root: &Location) {
    whole_life(store, &below(root, "model-00001-of-00002.safetensors")).await;
    aborted(&**store, &below(root, "model-00002-of-00002.safetensors")).await;
    unknown(&**store, &below(root, "unknown")).await;
    wrong_part(&**store, &below(root, "wrong")).await;
    over_another(&**store, &below(root, "over")).await;
    once(&**store, &below(root, "once")).await;
    nothing(&**store, &below(root, "nothing")).await;
}

/// An upload is completed once: repeated after something newer came, it changes nothing. Publication rests on this.
async fn once(store: &dyn Store, at: &Location) {
    let upload = store.begin(at, 1000).await.unwrap();
    let part = store.put_part(at, &upload, slot(0), content(9, 1000).into()).await.unwrap();
    store.complete(at, Completion { upload: &upload, parts: &[(0, part.clone())], size: 1000 }).await.unwrap();
    store.put(at, content(10, 1000).into()).await.unwrap();
    // Of one length, so a store may take it for done.
    let _ = store.complete(at, Completion { upload: &upload, parts: &[(0, part)], size: 1000 }).await;
    assert!(store.get(at, 1000).await.unwrap().0 == content(10, 1000), "an upload was completed a second time");
}

/// An upload of one part without bytes.
async fn nothing(store: &dyn Store, at: &Location) {
    let upload = store.begin(at, 0).await.unwrap();
    let part = store.put_part(at, &upload, slot(0), Vec::new().into()).await.unwrap();
    store.complete(at, Completion { upload: &upload, parts: &[(0, part)], size: 0 }).await.unwrap();
    assert_eq!(store.head(at).await.unwrap().size, 0);
}

/// A part that was never put: nothing becomes of it, and the upload can still be completed from the right ones.
async fn wrong_part(store: &dyn Store, at: &Location) {
    let upload = store.begin(at, 1000).await.unwrap();
    let right = store.put_part(at, &upload, slot(0), content(9, 1000).into()).await.unwrap();
    let invented = PartId::new(right.as_str().replace(|c: char| c.is_ascii_alphanumeric(), "7"));
    let refused = store
        .complete(at, Completion { upload: &upload, parts: &[(0, invented)], size: 1000 })
        .await
        .expect_err("an invented part");
    let kinds = [ErrorKind::InvalidPart, ErrorKind::Permanent];
    assert!(kinds.contains(&refused.kind()), "an invented part: {}", refused.chain());
    fails!(store.head(at).await, NotFound, "nothing is there after a refused completion");
    store
        .complete(at, Completion { upload: &upload, parts: &[(0, right)], size: 1000 })
        .await
        .expect("the upload goes on");
    assert!(store.get(at, 1000).await.unwrap().0 == content(9, 1000));
}

/// An upload that is dropped leaves the object that was there before.
async fn over_another(store: &dyn Store, at: &Location) {
    store.put(at, "older".into()).await.unwrap();
    let upload = store.begin(at, 1000).await.unwrap();
    store.put_part(at, &upload, slot(0), content(9, 1000).into()).await.unwrap();
    store.abort(at, &upload).await.unwrap();
    assert_eq!(&store.get(at, 100).await.unwrap().0[..], b"older");
}

fn slot(number: u32) -> PartSlot {
    PartSlot { number, offset: u64::from(number) * PART as u64 }
}

async fn put(store: &Arc<dyn Store>, at: &Location, upload: &UploadId, whole: &[u8], numbers: &[u32]) -> Vec<PartId> {
    let puts: Vec<_> = numbers
        .iter()
        .map(|number| {
            let bytes = whole.chunks(PART).nth(*number as usize).unwrap().to_vec();
            let (store, at, upload, slot) = (store.clone(), at.clone(), upload.clone(), slot(*number));
            tokio::spawn(async move { store.put_part(&at, &upload, slot, bytes.into()).await.unwrap() })
        })
        .collect();
    let mut ids = Vec::new();
    for put in puts {
        ids.push(put.await.unwrap());
    }
    ids
}

async fn whole_life(store: &Arc<dyn Store>, at: &Location) {
    let whole = content(7, 3 * PART + 12_345);
    let size = whole.len() as u64;
    store.put(at, "older".into()).await.unwrap();
    let upload = store.begin(at, size).await.unwrap();
    assert!(store.probe(at, &upload).await.unwrap());

    // Out of order, at the same time, and one of them a second time.
    let ids = put(store, at, &upload, &whole, &[3, 1, 0, 2]).await;
    let again = put(store, at, &upload, &whole, &[1]).await;
    let parts = vec![(0, ids[2].clone()), (1, again[0].clone()), (2, ids[3].clone()), (3, ids[0].clone())];

    assert_eq!(&store.get(at, 100).await.unwrap().0[..], b"older", "the older object stays until completion");
    let listed = store.list(&at.parent().unwrap()).await.unwrap();
    assert_eq!(listed.len(), 1, "an upload is not listed: {listed:?}");
    if store.boot_id(at).await.unwrap().is_some() {
        assert_eq!(store.boot_id(at).await.unwrap(), store.boot_id(at).await.unwrap());
        let buf = store.read_part(at, &upload, 3 * PART as u64, vec![0; 12_345]).await.unwrap();
        assert!(buf == whole[3 * PART..], "a part reads back before completion");
    }

    let made = store.complete(at, Completion { upload: &upload, parts: &parts, size }).await.unwrap();
    let there = store.head(at).await.unwrap();
    assert_eq!((made, there.size), (Some(there.pin.clone()), size), "the version that a completion names is there");
    assert!(store.get(at, 1 << 30).await.unwrap().0 == whole, "the parts lie in order of their numbers");
    let again = store
        .complete(at, Completion { upload: &upload, parts: &parts, size })
        .await
        .expect("completing twice is fine");
    assert!(again.is_none_or(|pin| pin == there.pin), "a repeated completion names no other version");
    assert!(!store.probe(at, &upload).await.unwrap());

    let late = put_late(&**store, at, &upload, vec![0xBB; PART]).await;
    fails!(late, NoSuchUpload, "a part after completion");
    assert!(store.get(at, 1 << 30).await.unwrap().0 == whole, "a late part changes nothing");
    store.abort(at, &upload).await.expect("aborting what is completed is fine");
    assert_eq!(store.head(at).await.unwrap().size, size, "and removes nothing");
}

async fn aborted(store: &dyn Store, at: &Location) {
    let upload = store.begin(at, PART as u64 + 1).await.unwrap();
    let id = store.put_part(at, &upload, slot(0), content(8, PART).into()).await.unwrap();
    fails!(store.head(at).await, NotFound, "nothing is there before completion");
    let short =
        store.complete(at, Completion { upload: &upload, parts: &[(0, id.clone())], size: PART as u64 + 1 }).await;
    assert!(short.is_err(), "parts that do not make up the size are no object");
    fails!(store.head(at).await, NotFound, "nothing is there after a refused completion");
    store.abort(at, &upload).await.unwrap();
    store.abort(at, &upload).await.expect("aborting twice is fine");
    assert!(!store.probe(at, &upload).await.unwrap());
    let late = put_late(store, at, &upload, content(8, PART)).await;
    fails!(late, NoSuchUpload, "a part after abort");
    fails!(
        store.complete(at, Completion { upload: &upload, parts: &[(0, id)], size: PART as u64 }).await,
        NoSuchUpload,
        "completion after abort"
    );
    fails!(store.head(at).await, NotFound, "nothing was ever there");

    let next = store.begin(at, PART as u64).await.unwrap();
    assert_ne!(next, upload, "an id is never used again");
    let stale = put_late(store, at, &upload, content(8, PART)).await;
    fails!(stale, NoSuchUpload, "a part to an earlier upload of the same path");
    store.abort(at, &next).await.unwrap();
}

/// Puts the first part to an upload that is gone. A server may answer and close the connection before it has read the part; the
/// client then meets the closed connection, and tries again as it does in use.
async fn put_late(store: &dyn Store, at: &Location, upload: &UploadId, part: Vec<u8>) -> Result<PartId> {
    let mut tries = 8;
    loop {
        tries -= 1;
        match store.put_part(at, upload, slot(0), part.clone().into()).await {
            Err(e) if e.kind() == ErrorKind::Transient && tries > 0 => {}
            answer => return answer,
        }
    }
}

/// Ids come over the wire and may be anything.
async fn unknown(store: &dyn Store, at: &Location) {
    for text in ["", "x", "0123456789abcdef", "../../../etc/passwd", "0123456789abcde/"] {
        let upload = UploadId::new(text);
        assert!(!store.probe(at, &upload).await.unwrap(), "{text:?}");
        fails!(store.put_part(at, &upload, slot(0), vec![0; 10].into()).await, NoSuchUpload, "a part to nowhere");
        store.abort(at, &upload).await.unwrap();
    }
}
