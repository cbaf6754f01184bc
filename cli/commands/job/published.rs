//! Whether the merge of a Job is published, for pods that index 0 cannot tell any more: it may have ended before they started.

use std::time::Duration;

use shardfuse_coordinator::failure::{io, location};
use shardfuse_coordinator::publish;
use shardfuse_merge::Result;
use shardfuse_merge::spec::MergeSpec;
use shardfuse_store::Stores;
use tracing::debug;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(15);

/// Waits until the output is this very merge, whole.
pub async fn wait(stores: &Stores, spec: &MergeSpec) {
    loop {
        match is_published(stores, spec).await {
            Ok(true) => return,
            Ok(false) => {}
            // The worker itself reports a store that it needs.
            Err(error) => debug!(%error, "the output cannot be looked at"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn is_published(stores: &Stores, spec: &MergeSpec) -> Result<bool> {
    let output = location(&spec.output)?;
    let store = stores.open(&output);
    let output = store.resolve(&output).await.map_err(io)?;
    match publish::manifest(&*store, &output).await? {
        Some(manifest) if manifest.spec == *spec => publish::complete(&*store, &output, &manifest).await,
        _ => Ok(false),
    }
}
