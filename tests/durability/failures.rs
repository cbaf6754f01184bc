//! Operations that fail, each in its turn: the merge gets over it or ends with that failure, and the next run is right.

use std::collections::BTreeSet;

use shardfuse_coordinator::Options;
use shardfuse_merge::Kind;
use shardfuse_store::ErrorKind;
use shardfuse_store::fault::{Fault, Faulty, Operation};

use crate::crashes::{assert_same, undisturbed};
use crate::interrupted::{Interrupted, What};
use crate::model::Place;
use shardfuse_fleetkit::local::{End, life, merge, plain};

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
    // Plan, epoch, the records of the uploads and those of the statistics are created first. How many records those take depends
    // on how many statistics arrive at a time, so the disk is full later and later, until a run has parts to keep.
    for (operation, first) in [(Operation::PutPart, 6), (Operation::Create, 9)] {
        let mut kept = 0;
        for spared in first.. {
            if kept > 0 {
                break;
            }
            let here = runtime();
            let place = Place::folder();
            let faulty = std::sync::Arc::new(Faulty::new(place.store.clone()));
            faulty.plan_run(operation, spared, u64::MAX, Fault::Before(ErrorKind::NoSpace));
            let e = life(merge(faulty, place.spec(), plain()), std::future::pending()).unwrap().unwrap_err();
            assert_eq!(e.kind(), Kind::NoSpace, "{operation:?}: {e}");
            assert!(e.advice().is_some_and(|h| h.contains("goes on where it stopped")), "{:?}", e.advice());
            let end = life(merge(place.store.clone(), place.spec(), plain()), std::future::pending()).unwrap().unwrap();
            let End::Published { kept: found, .. } = end else { panic!("{operation:?}: {end:?}") };
            kept = found;
            assert_eq!(here.block_on(place.leftovers()), Vec::<String>::new());
        }
    }
}

/// Later and later, until a run has parts to keep.
#[test]
fn an_input_that_goes_away_during_the_run_and_comes_back_lets_the_merge_go_on() {
    for (kind, expected) in [(ErrorKind::NotFound, Kind::MissingFile), (ErrorKind::Changed, Kind::InputChanged)] {
        let mut kept = 0;
        // Headers and configurations take fewer operations than the first.
        for at in (110..).step_by(8) {
            if kept > 0 {
                break;
            }
            let here = runtime();
            let place = here.block_on(Place::bucket());
            let store = Interrupted::new(place.store.clone(), at, What::LoseInputs(kind));
            let e = life(merge(store, place.spec(), plain()), std::future::pending()).unwrap().unwrap_err();
            assert_eq!(e.kind(), expected, "{e}");
            assert!(e.advice().is_some_and(|h| h.contains("put it back")), "{:?}", e.advice());
            assert!(!here.block_on(place.leftovers()).is_empty(), "the state is kept");
            let end = life(merge(place.store.clone(), place.spec(), plain()), std::future::pending()).unwrap().unwrap();
            let End::Published { kept: found, .. } = end else { panic!("{end:?}") };
            kept = found;
        }
    }
}

/// The last inputs that a merge reads are the sidecars, which publication copies.
#[test]
fn an_input_that_goes_away_during_publication_gets_the_same_hint() {
    for (kind, expected) in [(ErrorKind::NotFound, Kind::MissingFile), (ErrorKind::Changed, Kind::InputChanged)] {
        let here = runtime();
        let place = here.block_on(Place::bucket());
        let store = Interrupted::of(place.store.clone(), "complete", 1, What::LoseInputs(kind));
        let e = life(merge(store, place.spec(), plain()), std::future::pending()).unwrap().unwrap_err();
        assert_eq!(e.kind(), expected, "{e}");
        assert!(e.message().contains("tokenizer.json"), "{e}");
        assert!(e.advice().is_some_and(|h| h.contains("put it back")), "{:?}", e.advice());
        let end = life(merge(place.store.clone(), place.spec(), plain()), std::future::pending()).unwrap().unwrap();
        assert!(matches!(end, End::Published { new: 0, kept, .. } if kept > 0), "{end:?}");
    }
}

/// What S3 says when a zombie's later put of the same part got another ETag. The merge goes on by itself.
#[test]
fn parts_that_the_store_does_not_take_are_made_again() {
    let here = runtime();
    let new = undisturbed(Place::bucket);
    let place = here.block_on(Place::bucket());
    let watched = Interrupted::never(place.store.clone());
    let faulty = std::sync::Arc::new(Faulty::new(watched.clone()));
    faulty.plan(Operation::Complete, 2, Fault::Before(ErrorKind::InvalidPart));
    let end = life(merge(faulty, place.spec(), plain()), std::future::pending()).unwrap().unwrap();
    let End::Published { kept, new: again } = end else { panic!("{end:?}") };
    assert!(kept > 0 && again > 0, "{end:?}");
    let puts = watched.log().puts;
    let twice: BTreeSet<&String> =
        puts.iter().filter(|p| puts.iter().filter(|q| q == p).count() > 1).map(|p| &p.0).collect();
    assert_eq!(twice.len(), 1, "only one file is made again: {twice:?}");
    assert_same(&place, &here.block_on(place.published()), &new, "after parts were lost");
    assert_eq!(place.memory.as_ref().unwrap().open_uploads(), 0);
}

#[test]
fn a_store_that_never_takes_the_parts_is_given_up_after_three_rounds() {
    let here = runtime();
    let place = here.block_on(Place::bucket());
    let faulty = std::sync::Arc::new(Faulty::new(place.store.clone()));
    faulty.plan_run(Operation::Complete, 1, u64::MAX, Fault::Before(ErrorKind::InvalidPart));
    let e = life(merge(faulty.clone(), place.spec(), plain()), std::future::pending()).unwrap().unwrap_err();
    assert_eq!((e.kind(), faulty.calls(Operation::Complete)), (Kind::PartsLost, 6), "two files, three times: {e}");
}

/// The store answers with success and the ETag of the new object; the older one of the same length is what is there.
#[test]
fn a_completion_that_is_called_a_success_and_is_none_does_not_publish_the_older_output() {
    let here = runtime();
    let new = undisturbed(Place::bucket);
    let place = here.block_on(Place::false_bucket());
    here.block_on(async {
        for (name, bytes) in new.iter().filter(|(name, _)| *name != "shardfuse.json") {
            let older = if name.ends_with(".safetensors") { vec![7; bytes.len()].into() } else { bytes.clone() };
            place.store.put(&place.out().join(name).unwrap(), older).await.unwrap();
        }
    });
    let memory = place.memory.clone().unwrap();
    let watched = Interrupted::deed(place.store.clone(), "complete", 1, move || memory.expire_uploads());
    let options = Options { force: true, ..plain() };
    let end = life(merge(watched, place.spec(), options), std::future::pending()).unwrap().unwrap();
    assert!(matches!(end, End::Published { .. }), "{end:?}");
    assert_same(&place, &here.block_on(place.published()), &new, "after a false completion");
}

/// Uploads that a bucket's rule removes, or somebody who deletes their folder: noticed at the first put or the second, and
/// what they held is made again, in the same run.
#[test]
fn uploads_that_vanish_in_mid_merge_are_noticed_within_two_puts_and_made_again() {
    let here = runtime();
    let bucket = here.block_on(Place::bucket());
    let memory = bucket.memory.clone().unwrap();
    let folder = Place::folder();
    let hidden = folder.out().local_path().unwrap().join(".shardfuse/upload");
    // A bucket copies what a folder has to read, so their manifests differ.
    let (in_bucket, in_folder) = (undisturbed(Place::bucket), undisturbed(async || Place::folder()));
    let deeds: [(Place, Box<dyn FnOnce() + Send>); 2] = [
        (bucket, Box::new(move || memory.expire_uploads())),
        (folder, Box::new(move || std::fs::remove_dir_all(hidden).unwrap())),
    ];
    for ((place, deed), new) in deeds.into_iter().zip([in_bucket, in_folder]) {
        let watched = Interrupted::deed(place.store.clone(), "put_part", 6, deed);
        let began = std::time::Instant::now();
        let end = life(merge(watched.clone(), place.spec(), plain()), std::future::pending()).unwrap().unwrap();
        println!("{}: {:?}, {} puts missed, {end:?}", place.root, began.elapsed(), watched.log().missed);
        assert!(matches!(end, End::Published { .. }), "{end:?}");
        assert!((1..=2).contains(&watched.log().missed), "{} puts met no upload", watched.log().missed);
        assert_same(&place, &here.block_on(place.published()), &new, "after uploads vanished");
        assert_eq!(here.block_on(place.leftovers()), Vec::<String>::new());
    }
}

fn upload_of(place: &Place, file: &str) -> std::path::PathBuf {
    let folder = place.out().local_path().unwrap().join(".shardfuse/upload");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is = |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(file);
    files.into_iter().find(is).unwrap()
}

/// Somebody empties the file, or writes over its first byte, while nobody works on it.
#[test]
fn an_upload_that_was_cut_short_or_scribbled_over_after_a_kill_is_made_again() {
    use std::os::unix::fs::FileExt;
    let here = runtime();
    let new = undisturbed(async || Place::folder());
    let file = "model-00001-of-00002.safetensors";
    for scribble in [false, true] {
        let place = Place::folder();
        // Killed when everything is journaled.
        let store = Interrupted::of(place.store.clone(), "complete", 1, What::KillBefore);
        assert!(life(merge(store.clone(), place.spec(), plain()), store.hit()).is_none());
        let hidden = std::fs::File::options().write(true).open(upload_of(&place, file)).unwrap();
        match scribble {
            true => hidden.write_all_at(b"scribble", 0).unwrap(),
            false => hidden.set_len(100).unwrap(),
        }
        let watched = Interrupted::never(place.store.clone());
        let end = life(merge(watched.clone(), place.spec(), plain()), std::future::pending()).unwrap().unwrap();
        println!("scribble {scribble}: {end:?}");
        assert!(matches!(end, End::Published { kept, .. } if kept > 0), "{end:?}");
        let mut again = watched.log().puts;
        again.retain(|(name, _)| name.ends_with(".safetensors"));
        assert!(again.iter().all(|(name, _)| name == file), "the other file stays: {again:?}");
        assert_eq!(again == [(file.to_owned(), 0)], scribble, "one part if the rest is as it was: {again:?}");
        assert_same(&place, &here.block_on(place.published()), &new, "after a scribble");
    }
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
