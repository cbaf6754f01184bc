//! A process that is killed at each of its operations in turn, before and after it, and the next one that goes on.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use shardfuse_coordinator::Options;
use shardfuse_coordinator::journal::History;
use shardfuse_coordinator::state::OutputState;
use shardfuse_coordinator::tombstone;
use shardfuse_merge::plan::task::{Task, Work, tasks};

use crate::interrupted::{Interrupted, What};
use crate::model::Place;
use shardfuse_fleetkit::local::{End, life, merge, plain};

/// What the journal says, as (file, part), and how many uploads it cannot know of.
pub async fn journaled(place: &Place) -> (BTreeSet<(String, u32)>, usize) {
    let state = OutputState::of(place.store.clone(), &place.out()).unwrap();
    let Some(plan) = state.plan().await.unwrap() else { return (BTreeSet::new(), 0) };
    let tasks: Vec<Task> = tasks(&plan);
    let history = History::read(&state, &plan.digest(), &tasks, u64::MAX).await.unwrap();
    let part = |(task, piece): &(u32, u32)| match tasks[*task as usize].work {
        Work::Fill { file, .. } => Some((plan.output.files[file as usize].name.clone(), *piece)),
        Work::Reduce { .. } => None,
    };
    (history.pieces.keys().filter_map(part).collect(), history.unknown.len() + history.unannounced.len())
}

/// A folder or prefix with a config.json is one that a loader takes: then everything else of the model is there, whole.
pub async fn loadable_means_whole(
    place: &Place,
    old: &BTreeMap<String, Bytes>,
    new: &BTreeMap<String, Bytes>,
    what: &str,
) {
    let now = place.published().await;
    if now.get("config.json").is_none_or(|bytes| tombstone::is_tombstone(bytes))
        || (!old.is_empty() && old.iter().all(|(n, bytes)| now.get(n) == Some(bytes)))
    {
        return;
    }
    for (name, bytes) in new.iter().filter(|(n, _)| *n != "shardfuse.json") {
        assert!(now.get(name) == Some(bytes), "{what}: config.json is there, and {name} is not what it must be");
    }
}

/// Everything that an undisturbed merge publishes.
pub fn undisturbed(make: impl AsyncFn() -> Place) -> BTreeMap<String, Bytes> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let place = make().await;
        let end = merge(place.store.clone(), place.spec(), plain()).await.unwrap();
        assert!(matches!(end, End::Published { kept: 0, new } if new > 6), "{end:?}");
        assert_eq!(place.leftovers().await, Vec::<String>::new());
        let mut files = place.published().await;
        // It names the folder, which differs from one run to the next on a disk.
        let manifest = files.remove("shardfuse.json").unwrap();
        files.insert("shardfuse.json".into(), manifest);
        files
    })
}

/// The same files, the manifest but for the names of inputs and output.
pub fn assert_same(place: &Place, left: &BTreeMap<String, Bytes>, right: &BTreeMap<String, Bytes>, what: &str) {
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>(), "{what}");
    for (name, bytes) in left {
        let same = match (name.as_str(), place.memory.is_some()) {
            ("shardfuse.json", false) => digests(bytes) == digests(&right[name]),
            _ => *bytes == right[name],
        };
        assert!(same, "{what}: {name} differs");
    }
}

fn digests(manifest: &[u8]) -> serde_json::Value {
    serde_json::from_slice::<serde_json::Value>(manifest).unwrap()["files"].take()
}

/// Kills at operation `at`; false if the merge has fewer.
fn killed_at(
    make: &impl AsyncFn() -> Place,
    at: u64,
    what: What,
    options: Options,
    new: &BTreeMap<String, Bytes>,
) -> bool {
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = here.block_on(make());
    let old = here.block_on(place.published());
    let store = Interrupted::new(place.store.clone(), at, what);
    let first = life(merge(store.clone(), place.spec(), options), store.clone().hit());
    let told = format!("{what:?} {at} ({})", store.log().hit);
    if !store.reached() {
        assert!(matches!(first, Some(Ok(End::Published { .. }))), "{told}: {first:?}");
        return false;
    }
    here.block_on(loadable_means_whole(&place, &old, new, &told));
    let (journaled, unknown) = here.block_on(journaled(&place));
    let watched = Interrupted::never(place.store.clone());
    let second = life(merge(watched.clone(), place.spec(), options), std::future::pending());
    match second {
        Some(Ok(End::Published { .. } | End::Finished)) => {}
        other => panic!("{told}: the next run ended with {other:?}"),
    }
    let again: Vec<_> = watched.log().puts.into_iter().filter(|put| journaled.contains(put)).collect();
    assert_eq!(again, [], "{told}: journaled parts were put again");
    assert_same(&place, &here.block_on(place.published()), new, &told);
    assert_eq!(here.block_on(place.leftovers()), Vec::<String>::new(), "{told}");
    if let Some(memory) = &place.memory {
        let open = memory.open_uploads();
        assert!(open <= unknown, "{told}: {open} uploads are left, of which the journal misses {unknown}");
    }
    true
}

fn killed_everywhere(make: impl AsyncFn() -> Place, options: Options, step: usize) {
    let new = undisturbed(&make);
    let mut killed = 0;
    for at in (1..).step_by(step) {
        let before = killed_at(&make, at, What::KillBefore, options, &new);
        let after = killed_at(&make, at, What::KillAfter, options, &new);
        killed += u32::from(before) + u32::from(after);
        if !before && !after {
            break;
        }
    }
    assert!(killed > 40, "only {killed} kills");
    println!("{killed} kills");
}

#[test]
fn at_every_operation_on_an_object_store() {
    killed_everywhere(Place::bucket, plain(), 1);
}

#[test]
fn at_operations_on_a_file_system() {
    killed_everywhere(async || Place::folder(), plain(), 3);
}

/// An output in place: the old model, whole, or none, or the new one.
#[test]
fn at_operations_over_an_old_output() {
    let with_old = async || {
        let place = Place::bucket().await;
        for (name, text) in [("config.json", "{}"), ("model.safetensors", "old"), ("tokenizer.model", "old")] {
            place.store.put(&place.out().join(name).unwrap(), text.into()).await.unwrap();
        }
        place
    };
    let options = Options { force: true, ..plain() };
    let new = undisturbed(Place::bucket);
    let mut killed = 0;
    for at in (1..).step_by(2) {
        let before = killed_at(&with_old, at, What::KillBefore, options, &new);
        let after = killed_at(&with_old, at, What::KillAfter, options, &new);
        killed += u32::from(before) + u32::from(after);
        if !before && !after {
            break;
        }
    }
    assert!(killed > 40, "only {killed} kills");
}
