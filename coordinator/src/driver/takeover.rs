//! Whether another coordinator has taken the merge over.

use std::time::Duration;

use shardfuse_merge::{Error, Kind};
use tracing::debug;

use crate::state::{Claim, OutputState};

/// Ends once a higher epoch was taken, with the failure that says so. A check that cannot be made says nothing: journal
/// and publication meet the same store, and publication checks again.
pub(super) async fn watch(state: OutputState, claim: Claim, every: Duration) -> Error {
    loop {
        tokio::time::sleep(every).await;
        match state.check(&claim).await {
            Ok(()) => {}
            Err(e) if e.kind() == Kind::OutputBusy => return e,
            Err(e) => debug!(error = %e, "the epoch cannot be checked"),
        }
    }
}
