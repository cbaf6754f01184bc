//! Two coordinators on one output. The first is stopped at each of its operations in turn while a second one does the
//! whole merge, and then goes on as if nothing had happened: also over an older model, and also if a second and a third
//! merge were published meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use shardfuse_coordinator::Options;
use shardfuse_merge::spec::MergeSpec;
use shardfuse_merge::{Kind, Result};

use crate::crashes::{assert_same, undisturbed};
use crate::interrupted::{Interrupted, What};
use crate::model::Place;
use shardfuse_fleetkit::local::{End, merge, plain};

struct Ended {
    slow: Result<End>,
    quick: Result<End>,
    /// The operation at which the first was stopped.
    hit: String,
    /// Whether the first had published by then.
    whole: bool,
}

/// How the two ended; `None` if the first has fewer operations.
fn rivals(place: &Arc<Place>, at: u64, first: Options, second: Options) -> Option<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let store = Interrupted::new(place.store.clone(), at, What::Stall);
    let ended = runtime.block_on(async {
        let slow = merge(store.clone(), place.spec(), first);
        tokio::pin!(slow);
        tokio::select! {
            _ = &mut slow => return None,
            () = store.clone().hit() => {}
        }
        let whole = place.published().await.contains_key("shardfuse.json");
        let quick = merge(place.store.clone(), place.spec(), second).await;
        store.release();
        Some(Ended { slow: slow.await, quick, hit: store.log().hit, whole })
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(10));
    ended
}

fn one_publishes(options: Options, step: usize) {
    let new = undisturbed(Place::bucket);
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut busy = 0;
    for at in (1..).step_by(step) {
        let place = Arc::new(here.block_on(Place::bucket()));
        let Some(Ended { slow, quick, hit, whole }) = rivals(&place, at, plain(), options) else { break };
        let told = format!("stopped at {at} ({hit}): the first ended with {slow:?}, the second with {quick:?}");
        let published = [&slow, &quick].into_iter().filter(|end| matches!(end, Ok(End::Published { .. }))).count();
        // A restart of what is published is another merge, after the first.
        let again = options.restart && whole && published == 2;
        // Between its seal and the last look the second one may find the merge published and remove the state for it.
        let helped = whole && published == 0 && matches!(quick, Ok(End::Finished));
        assert!(published == 1 || again || helped, "{told}");
        for end in [&slow, &quick] {
            match end {
                Ok(_) => {}
                Err(e) => {
                    // A restart does not replace what is published meanwhile: that takes --force.
                    let late = options.restart && e.kind() == Kind::OutputExists && published == 1;
                    assert!(late || e.kind() == Kind::OutputBusy, "{told}");
                    busy += 1;
                }
            }
        }
        assert_same(&place, &here.block_on(place.published()), &new, &told);
    }
    assert!(busy > 20, "only {busy} coordinators found themselves replaced");
}

#[test]
fn of_two_that_go_on_with_one_merge_one_publishes() {
    one_publishes(plain(), 1);
}

#[test]
fn of_two_of_which_one_restarts_one_publishes() {
    one_publishes(Options { restart: true, ..plain() }, 2);
}

/// What is published over the older model when nothing goes wrong: that of each merge, the last of which stays.
async fn undisturbed_over(place: &Place, specs: &[MergeSpec]) -> BTreeMap<String, Bytes> {
    for spec in specs {
        let end = merge(place.store.clone(), spec.clone(), FORCE).await.unwrap();
        assert!(matches!(end, End::Published { .. }), "{end:?}");
    }
    place.published().await
}

const FORCE: Options = Options { restart: false, force: true, single_coordinator: true };

/// A bucket with an older model in the output. Its `config.json` is, byte by byte, that of the merge.
async fn with_older(config: &Bytes, make: &impl AsyncFn() -> Place) -> Place {
    let place = make().await;
    let older = [
        ("config.json", config.clone()),
        ("model.safetensors", "older".into()),
        ("tokenizer.model", "older".into()),
        ("model.safetensors.index.json", "{}".into()),
        ("shardfuse.json", "{}".into()),
        ("notes.txt", "not ours".into()),
    ];
    for (name, bytes) in older {
        place.store.put(&place.out().join(name).unwrap(), bytes).await.unwrap();
    }
    place
}

/// The first is stopped at every `step`-th operation while others run to their ends, each over what is there by then.
fn nothing_is_done_late(make: impl AsyncFn() -> Place, others: fn(&Place) -> Vec<MergeSpec>, step: usize) {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let here = runtime();
    let config = here.block_on(async {
        let place = make().await;
        merge(place.store.clone(), place.spec(), plain()).await.unwrap();
        place.published().await["config.json"].clone()
    });
    let expected = here.block_on(async {
        let place = with_older(&config, &make).await;
        undisturbed_over(&place, &others(&place)).await
    });
    let own = here.block_on(async {
        let place = with_older(&config, &make).await;
        undisturbed_over(&place, &[place.spec()]).await
    });
    let mut stopped = 0;
    for at in (1..).step_by(step) {
        let place = here.block_on(with_older(&config, &make));
        let store = Interrupted::new(place.store.clone(), at, What::Stall);
        let runtime = runtime();
        let ended = runtime.block_on(async {
            let slow = merge(store.clone(), place.spec(), FORCE);
            tokio::pin!(slow);
            tokio::select! {
                _ = &mut slow => return None,
                () = store.clone().hit() => {}
            }
            // One that was not admitted yet begins anew over what it finds then, as --force asks for.
            let listed = place.store.list(&place.out()).await.unwrap();
            let replaced = listed.iter().any(|entry| entry.name.starts_with(".shardfuse/journal/"));
            let published = place.published().await;
            let manifest = published.get("shardfuse.json").cloned().unwrap_or_default();
            let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap_or_default();
            let admitted = replaced || manifest["plan"].is_string();
            for spec in others(&place) {
                let options = Options { restart: spec != place.spec(), ..FORCE };
                let end = merge(place.store.clone(), spec, options).await;
                assert!(matches!(end, Ok(End::Published { .. } | End::Finished)), "{}: {end:?}", store.log().hit);
            }
            let before = place.published().await;
            store.release();
            let slow = slow.await;
            Some((before, admitted, matches!(slow, Ok(End::Published { .. }))))
        });
        runtime.shutdown_timeout(std::time::Duration::from_secs(10));
        let Some((before, admitted, published)) = ended else { break };
        let told = format!("stopped at {at} ({})", store.log().hit);
        // The first may have published before: then what it made lies below what came next.
        assert_same(&place, &before, &expected, &told);
        let after = if published && !admitted { &own } else { &before };
        assert_same(&place, &here.block_on(place.published()), after, &format!("{told}, and then going on"));
        stopped += 1;
    }
    assert!(stopped > 20, "stopped only {stopped} times");
}

#[test]
fn over_an_older_output_whoever_wakes_up_late_takes_nothing_of_the_same_merge() {
    nothing_is_done_late(Place::bucket_with_pins_of_bytes, |place| vec![place.spec()], 1);
}

#[test]
fn over_an_older_output_whoever_wakes_up_late_takes_nothing_of_another_merge() {
    nothing_is_done_late(Place::bucket_with_pins_of_bytes, |place| vec![place.other_spec()], 3);
}

#[test]
fn whoever_wakes_up_two_merges_later_takes_nothing() {
    nothing_is_done_late(Place::bucket_with_pins_of_bytes, |place| vec![place.spec(), place.other_spec()], 5);
}

#[test]
fn in_a_folder_whoever_wakes_up_late_takes_nothing() {
    nothing_is_done_late(async || Place::folder(), |place| vec![place.spec()], 7);
    nothing_is_done_late(async || Place::folder(), |place| vec![place.other_spec()], 11);
}
