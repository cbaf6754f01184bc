use std::sync::Arc;

use shardfuse_store::memory::Memory;
use shardfuse_store::{Location, Store};

use super::remove::discard;
use crate::state::OutputState;

fn fresh() -> (OutputState, Location) {
    let output: Location = "s3://bucket/out".parse().unwrap();
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    (OutputState::of(store, &output).unwrap(), output)
}

/// A coordinator that counted one epoch, and whose state another one removed before it took the second.
async fn late_epoch(state: &OutputState) {
    assert_eq!(state.take_epoch("the plan's digest", 1).await.unwrap().epoch, 2);
}

#[tokio::test]
async fn an_epoch_that_was_taken_after_the_state_was_removed_does_not_stay() {
    let (state, output) = fresh();
    late_epoch(&state).await;
    discard(&state, &output).await.unwrap();
    assert_eq!(state.store.list(&state.at).await.unwrap(), []);
}

#[tokio::test]
async fn epochs_with_a_gap_below_are_not_in_sequence() {
    let (state, _) = fresh();
    assert!(state.in_sequence().await.unwrap(), "none is there");
    late_epoch(&state).await;
    assert!(!state.in_sequence().await.unwrap(), "only the second is there");
    state.take_epoch("the plan's digest", 0).await.unwrap();
    assert!(state.in_sequence().await.unwrap(), "both are there");
}
