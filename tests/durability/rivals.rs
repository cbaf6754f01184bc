//! Two coordinators on one output. The first is stopped at each of its operations in turn while a second one does the
//! whole merge, and then goes on as if nothing had happened.

use std::sync::Arc;

use shardfuse_coordinator::Options;
use shardfuse_merge::{Kind, Result};

use crate::crashes::{assert_same, undisturbed};
use crate::interrupted::{Interrupted, What};
use crate::model::Place;
use crate::run::{End, merge, plain};

/// How the two ended, with the operation at which the first was stopped; `None` if it has fewer.
fn rivals(place: &Arc<Place>, at: u64, first: Options, second: Options) -> Option<(Result<End>, Result<End>, String)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let store = Interrupted::new(place.store.clone(), at, What::Stall);
    let ended = runtime.block_on(async {
        let slow = merge(store.clone(), place.spec(), first);
        tokio::pin!(slow);
        tokio::select! {
            _ = &mut slow => return None,
            () = store.clone().hit() => {}
        }
        let quick = merge(place.store.clone(), place.spec(), second).await;
        store.release();
        Some((slow.await, quick, store.log().hit))
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
        let Some((slow, quick, hit)) = rivals(&place, at, plain(), options) else { break };
        let told = format!("stopped at {at} ({hit}): the first ended with {slow:?}, the second with {quick:?}");
        let published = [&slow, &quick].into_iter().filter(|end| matches!(end, Ok(End::Published { .. }))).count();
        assert_eq!(published, 1, "{told}");
        for end in [&slow, &quick] {
            match end {
                Ok(_) => {}
                Err(e) => {
                    assert_eq!(e.kind(), Kind::OutputBusy, "{told}");
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
