//! Operations that fail, each in its turn: the merge gets over it or ends with that failure, and the next run is right.

use shardfuse_coordinator::Options;
use shardfuse_merge::Kind;
use shardfuse_store::ErrorKind;
use shardfuse_store::fault::{Fault, Faulty, Operation};

use crate::crashes::{assert_same, undisturbed};
use crate::interrupted::{Interrupted, What};
use crate::model::Place;
use crate::run::{End, life, merge, plain};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Fails every operation in turn. The first run either succeeds all the same or ends with one of `kinds`; the second
/// succeeds and publishes the same files.
fn failing_everywhere(make: impl AsyncFn() -> Place, what: What, kinds: &[Kind], step: usize) {
    let new = undisturbed(&make);
    let here = runtime();
    let mut failed = 0;
    for at in (1..).step_by(step) {
        let place = here.block_on(make());
        let store = Interrupted::new(place.store.clone(), at, what);
        let first = life(merge(store.clone(), place.spec(), plain()), std::future::pending()).unwrap();
        let told = format!("{what:?} {at} ({})", store.log().hit);
        if !store.reached() {
            break;
        }
        if let Err(e) = &first {
            failed += 1;
            assert!(kinds.contains(&e.kind()), "{told}: ended with {}: {e}", e.kind());
        }
        let second = life(merge(place.store.clone(), place.spec(), plain()), std::future::pending()).unwrap();
        assert!(matches!(second, Ok(End::Published { .. } | End::Finished)), "{told}: {second:?} after {first:?}");
        assert_same(&place, &here.block_on(place.published()), &new, &told);
        assert_eq!(here.block_on(place.leftovers()), Vec::<String>::new(), "{told}");
    }
    assert!(failed > 20, "only {failed} operations made the merge fail");
}

#[test]
fn a_full_disk_at_any_operation_says_so_and_the_merge_goes_on_once_there_is_room() {
    failing_everywhere(async || Place::folder(), What::FailBefore(ErrorKind::NoSpace), &[Kind::NoSpace], 2);
}

#[test]
fn a_lost_reply_at_any_operation_costs_at_most_another_run() {
    failing_everywhere(Place::bucket, What::FailAfter(ErrorKind::Permanent), &[Kind::Io, Kind::OutputBusy], 1);
}

/// A disk that fills while parts are written, and again while their receipts are.
#[test]
fn finished_parts_survive_a_full_disk() {
    for operation in [Operation::PutPart, Operation::Create] {
        let here = runtime();
        let place = Place::folder();
        let faulty = std::sync::Arc::new(Faulty::new(place.store.clone()));
        // Plan, epoch and the records of the uploads are created first.
        faulty.plan_run(operation, 6, u64::MAX, Fault::Before(ErrorKind::NoSpace));
        let e = life(merge(faulty, place.spec(), plain()), std::future::pending()).unwrap().unwrap_err();
        assert_eq!(e.kind(), Kind::NoSpace, "{operation:?}: {e}");
        assert!(e.advice().is_some_and(|h| h.contains("goes on where it stopped")), "{:?}", e.advice());
        let end = life(merge(place.store.clone(), place.spec(), plain()), std::future::pending()).unwrap().unwrap();
        assert!(matches!(end, End::Published { kept, .. } if kept > 0), "{operation:?}: {end:?}");
        assert_eq!(here.block_on(place.leftovers()), Vec::<String>::new());
    }
}

#[test]
fn an_input_that_goes_away_during_the_run_and_comes_back_lets_the_merge_go_on() {
    for (kind, expected) in [(ErrorKind::NotFound, Kind::MissingFile), (ErrorKind::Changed, Kind::InputChanged)] {
        let here = runtime();
        let place = here.block_on(Place::bucket());
        // Headers and configurations take fewer operations than that, and some parts come after them.
        let store = Interrupted::new(place.store.clone(), 120, What::LoseInputs(kind));
        let e = life(merge(store, place.spec(), plain()), std::future::pending()).unwrap().unwrap_err();
        assert_eq!(e.kind(), expected, "{e}");
        assert!(e.advice().is_some_and(|h| h.contains("put it back")), "{:?}", e.advice());
        assert!(!here.block_on(place.leftovers()).is_empty(), "the state is kept");
        let end = life(merge(place.store.clone(), place.spec(), plain()), std::future::pending()).unwrap().unwrap();
        assert!(matches!(end, End::Published { kept, .. } if kept > 0), "{end:?}");
    }
}

/// What S3 says when a zombie's later put of the same part got another ETag.
#[test]
fn parts_that_the_store_does_not_take_are_made_again() {
    let here = runtime();
    let new = undisturbed(Place::bucket);
    let place = here.block_on(Place::bucket());
    let faulty = std::sync::Arc::new(Faulty::new(place.store.clone()));
    faulty.plan(Operation::Complete, 2, Fault::Before(ErrorKind::InvalidPart));
    let e = life(merge(faulty, place.spec(), plain()), std::future::pending()).unwrap().unwrap_err();
    assert_eq!(e.kind(), Kind::PartsLost, "{e}");
    let watched = Interrupted::never(place.store.clone());
    let end = life(merge(watched.clone(), place.spec(), plain()), std::future::pending()).unwrap().unwrap();
    assert!(matches!(end, End::Published { kept, new } if kept > 0 && new > 0), "{end:?}");
    let puts = watched.log().puts.into_iter().map(|p| p.0);
    let files: std::collections::BTreeSet<String> = puts.filter(|name| name.ends_with(".safetensors")).collect();
    assert_eq!(files.len(), 1, "only one file is made again: {files:?}");
    assert_same(&place, &here.block_on(place.published()), &new, "after parts were lost");
    assert_eq!(place.memory.as_ref().unwrap().open_uploads(), 0);
}

/// An upload that expired is not taken for completed because an older file of the same length is in its place.
#[test]
fn an_expired_upload_over_an_old_file_of_the_same_length_is_noticed() {
    let here = runtime();
    let new = undisturbed(Place::bucket);
    let place = here.block_on(Place::bucket());
    let file = "model-00001-of-00002.safetensors";
    here.block_on(async {
        for (name, bytes) in [("config.json", "{}".into()), (file, vec![7; new[file].len()].into())] {
            place.store.put(&place.out().join(name).unwrap(), bytes).await.unwrap();
        }
    });
    let options = Options { force: true, ..plain() };
    // Everything is journaled, and publication is where it ends.
    let store = Faulty::new(place.store.clone());
    store.plan_run(Operation::Complete, 1, u64::MAX, Fault::Before(ErrorKind::Permanent));
    let e =
        life(merge(std::sync::Arc::new(store), place.spec(), options), std::future::pending()).unwrap().unwrap_err();
    assert_eq!(e.kind(), Kind::Io, "{e}");
    here.block_on(async {
        let stores = shardfuse_store::Stores::all(place.store.clone());
        let found = shardfuse_coordinator::clean::survey(&stores, &place.out()).await.unwrap();
        let upload = found.uploads.into_iter().find(|u| u.file == file).unwrap();
        let at = place.out().join(file).unwrap();
        place.store.abort(&at, &shardfuse_store::UploadId::new(upload.id)).await.unwrap();
    });
    let mut last = None;
    for _ in 0..2 {
        last = life(merge(place.store.clone(), place.spec(), options), std::future::pending());
        if matches!(&last, Some(Err(e)) if e.kind() == Kind::PartsLost) {
            continue;
        }
        break;
    }
    assert!(matches!(last, Some(Ok(End::Published { .. }))), "{last:?}");
    assert_same(&place, &here.block_on(place.published()), &new, "after an expired upload");
}
