//! `clean` after a process that was killed, and the room that a restart counts on.

use shardfuse_coordinator::{Options, clean};
use shardfuse_merge::Kind;
use shardfuse_store::fault::{Fault, Faulty, Operation};
use shardfuse_store::{ErrorKind, Stores};

use crate::interrupted::{Interrupted, What};
use crate::model::Place;
use shardfuse_fleetkit::local::{End, life, merge, plain};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A bucket in which a merge was killed in the middle of its parts.
fn killed(here: &tokio::runtime::Runtime) -> Place {
    let place = here.block_on(Place::bucket());
    let store = Interrupted::new(place.store.clone(), 150, What::KillBefore);
    assert!(life(merge(store.clone(), place.spec(), plain()), store.hit()).is_none(), "it must not have ended");
    place
}

#[test]
fn what_a_killed_merge_left_is_shown_and_removed() {
    let here = runtime();
    let place = killed(&here);
    let stores = Stores::all(place.store.clone());
    here.block_on(async {
        let found = clean::survey(&stores, &place.out()).await.unwrap();
        assert!(found.state && found.objects.0 > 4, "{found:?}");
        assert_eq!(found.uploads.len(), 2, "{found:?}");
        assert_eq!(place.memory.as_ref().unwrap().open_uploads(), 2, "looking changes nothing");
        assert!(found.busy(), "it wrote something just now, and not that it stopped: {found:?}");
        let refused = clean::clean(&stores, &place.out(), false).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::OutputBusy);
        clean::clean(&stores, &place.out(), true).await.unwrap();
        assert_eq!(place.memory.as_ref().unwrap().open_uploads(), 0);
        assert_eq!(place.leftovers().await, Vec::<String>::new());
        assert_eq!(place.published().await, Default::default());
        assert!(!clean::survey(&stores, &place.out()).await.unwrap().state);
        clean::clean(&stores, &place.out(), false).await.expect("cleaning what is clean is fine");
    });
}

#[test]
fn a_merge_that_stopped_in_order_is_cleaned_without_force() {
    let here = runtime();
    let place = here.block_on(Place::bucket());
    let faulty = Faulty::new(place.store.clone());
    faulty.plan_run(Operation::PutPart, 4, u64::MAX, Fault::Before(ErrorKind::Permanent));
    let ended = life(merge(std::sync::Arc::new(faulty), place.spec(), plain()), std::future::pending()).unwrap();
    assert_eq!(ended.unwrap_err().kind(), Kind::Io);
    let stores = Stores::all(place.store.clone());
    here.block_on(async {
        let found = clean::survey(&stores, &place.out()).await.unwrap();
        assert!(found.state && !found.busy(), "{found:?}");
        clean::clean(&stores, &place.out(), false).await.unwrap();
        assert_eq!(place.memory.as_ref().unwrap().open_uploads(), 0);
        assert_eq!(place.leftovers().await, Vec::<String>::new());
    });
}

#[test]
fn uploads_that_were_begun_and_not_written_down_are_missed() {
    let here = runtime();
    let mut missed = 0;
    for at in 1.. {
        let place = here.block_on(Place::bucket());
        let store = Interrupted::new(place.store.clone(), at, What::KillBefore);
        if life(merge(store.clone(), place.spec(), plain()), store.clone().hit()).is_some() {
            break;
        }
        let found = here.block_on(clean::survey(&Stores::all(place.store.clone()), &place.out())).unwrap();
        let open = place.memory.as_ref().unwrap().open_uploads();
        if found.state && open > found.uploads.len() {
            assert!(open <= found.uploads.len() + found.unknown.len(), "{}: {found:?}", store.log().hit);
            missed += 1;
        } else if !found.uploads.is_empty() {
            break;
        }
    }
    assert!(missed > 0, "no kill fell between an upload and its record");
}

/// A disk that is full by the uploads of the merge which is to be discarded.
#[test]
fn a_restart_counts_the_room_of_the_uploads_that_it_discards() {
    let here = runtime();
    let place = Place::folder();
    let store = Interrupted::new(place.store.clone(), 150, What::KillBefore);
    assert!(life(merge(store.clone(), place.spec(), plain()), store.hit()).is_none());
    let full = Interrupted::new(place.store.clone(), u64::MAX, What::Full(1000));
    let restart = Options { restart: true, ..plain() };
    let end = life(merge(full.clone(), place.spec(), restart), std::future::pending()).unwrap();
    assert!(matches!(end, Ok(End::Published { kept: 0, .. })), "{end:?}");
    // Without anything to discard there is no room.
    here.block_on(async { place.store.delete_tree(&place.out()).await.unwrap() });
    let end = life(merge(full, place.spec(), restart), std::future::pending()).unwrap();
    assert_eq!(end.unwrap_err().kind(), Kind::NoSpace);
}

/// A merge over an older model, killed when its tombstones are in place, and given up: nothing of it looks like a model.
#[test]
fn tombstones_of_a_merge_that_is_given_up_go_with_it_and_another_merge_goes_over_them() {
    let here = runtime();
    let force = Options { force: true, ..plain() };
    let mut cleaned = 0;
    for at in (150..).step_by(3) {
        let place = here.block_on(Place::bucket_with_pins_of_bytes());
        here.block_on(async {
            for name in ["config.json", "model.safetensors", "shardfuse.json"] {
                place.store.put(&place.out().join(name).unwrap(), "{}".into()).await.unwrap();
            }
        });
        let store = Interrupted::new(place.store.clone(), at, What::KillBefore);
        if life(merge(store.clone(), place.spec(), force), store.clone().hit()).is_some() {
            break;
        }
        let stores = Stores::all(place.store.clone());
        let found = here.block_on(clean::survey(&stores, &place.out())).unwrap();
        if found.tombstones.is_empty() {
            continue;
        }
        here.block_on(async {
            if cleaned % 2 == 0 {
                clean::clean(&stores, &place.out(), true).await.unwrap();
                assert!(clean::survey(&stores, &place.out()).await.unwrap().tombstones.is_empty());
                // One that was buried is gone, and one that was not is as it was.
                let buried = found.tombstones.iter().any(|name| name == "config.json");
                assert_eq!(place.published().await.contains_key("config.json"), !buried, "killed at {at}");
            }
            let other = Options { restart: true, ..force };
            let end = merge(place.store.clone(), place.other_spec(), other).await.unwrap();
            assert!(matches!(end, End::Published { .. }), "{end:?}");
            let published: Vec<String> = place.published().await.into_keys().collect();
            let whole = ["README.md", "config.json", "model.safetensors", "shardfuse.json", "tokenizer.json"];
            let rest = published.iter().filter(|name| !whole.contains(&name.as_str()));
            assert_eq!(rest.collect::<Vec<_>>(), Vec::<&String>::new(), "killed at {at}");
        });
        cleaned += 1;
    }
    assert!(cleaned > 2, "only {cleaned} kills left tombstones");
}
