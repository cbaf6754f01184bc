//! Merges in a bucket that copies what does not change.

use std::sync::Arc;

use shardfuse_coordinator::index;
use shardfuse_merge::checkpoint::files::DIGESTS;
use shardfuse_merge::output::manifest::{Manifest, ManifestFile};
use shardfuse_merge::spec::{Digests, MergeSpec, StoreCopies};
use shardfuse_store::{Store, Stores};

use crate::interrupted::{Interrupted, What};
use crate::model::{PART, Place};
use shardfuse_fleetkit::local::{End, life, merge, plain};

/// The file in which a tensor is that nothing changes.
const FILE: &str = "model-00001-of-00002.safetensors";

/// The manifest's entry of that file, and its bytes, once the merge is published.
async fn published(place: &Place, store: Arc<dyn Store>, spec: MergeSpec) -> (ManifestFile, Vec<u8>) {
    let end = merge(store, spec, plain()).await.unwrap();
    assert!(matches!(end, End::Published { .. }), "{end:?}");
    of(place).await
}

async fn of(place: &Place) -> (ManifestFile, Vec<u8>) {
    let files = place.published().await;
    let manifest: Manifest = serde_json::from_slice(&files["shardfuse.json"]).unwrap();
    let entry = manifest.files.into_iter().find(|file| file.name == FILE).unwrap();
    (entry, files[FILE].to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_copies_is_what_a_worker_would_write() {
    let (made, copied) = (Place::bucket().await, Place::bucket().await);
    let none = MergeSpec { store_copies: StoreCopies::None, ..made.spec() };
    let (entry, bytes) = published(&made, made.store.clone(), none).await;
    assert_eq!(entry.blake3, Some(blake3::hash(&bytes).to_hex().to_string()));
    assert_eq!(made.memory.as_ref().unwrap().bytes_copied(), 0);

    let (unread, same) = published(&copied, copied.store.clone(), copied.spec()).await;
    assert!(same == bytes);
    let by_the_store = copied.memory.as_ref().unwrap().bytes_copied();
    assert!(by_the_store >= 2 * PART, "{by_the_store} bytes");
    assert_eq!((unread.blake3.as_ref(), unread.unread_bytes()), (None, by_the_store));
    assert!(unread.unread.iter().all(|range| range.url == format!("s3://bucket/base/{FILE}")), "{unread:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_the_base_or_a_reader_tells_the_digest() {
    let place = Place::bucket().await;
    let spec = MergeSpec { digests: Digests::Complete, ..place.spec() };
    let (complete, bytes) = published(&place, place.store.clone(), spec).await;
    assert_eq!(complete.blake3, Some(blake3::hash(&bytes).to_hex().to_string()));
    assert!(place.memory.as_ref().unwrap().bytes_copied() > 0, "it is copied all the same");

    let place = Place::bucket().await;
    let (stores, base) = (Stores::all(place.store.clone()), place.at("base"));
    let names = [FILE.to_owned(), "model-00002-of-00002.safetensors".to_owned()];
    let made = index::make(&stores, &base, &names, PART, "test".into(), |_| ()).await.unwrap();
    index::write(&stores, &base.join(DIGESTS).unwrap(), &made).await.unwrap();
    let (indexed, same) = published(&place, place.store.clone(), place.spec()).await;
    assert!(same == bytes && place.memory.as_ref().unwrap().bytes_copied() > 0);
    assert_eq!((indexed.blake3, indexed.unread.as_slice()), (complete.blake3, &[][..]));
}

#[test]
fn a_merge_goes_on_with_the_parts_that_it_began_with() {
    let here = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut resumed = 0;
    for at in (20..).step_by(10) {
        let place = here.block_on(Place::bucket());
        let killing = Interrupted::new(place.store.clone(), at, What::KillBefore);
        if life(merge(killing.clone(), place.spec(), plain()), killing.hit()).is_some() {
            break;
        }
        place.memory.as_ref().unwrap().offer_no_copies();
        let end = here.block_on(merge(place.store.clone(), place.spec(), plain())).unwrap();
        if matches!(end, End::Published { kept, .. } if kept > 0) {
            resumed += 1;
            let (entry, bytes) = here.block_on(of(&place));
            let undisturbed = here.block_on(Place::bucket());
            let (expected, same) =
                here.block_on(published(&undisturbed, undisturbed.store.clone(), undisturbed.spec()));
            assert!(bytes == same, "killed before call {at}");
            assert_eq!((entry.ends, entry.parts.len()), (expected.ends, expected.parts.len()));
        }
    }
    assert!(resumed > 2, "only {resumed} merges were resumed");
}
