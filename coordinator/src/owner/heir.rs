//! A coordinator that took over while the other one still holds the output's lock: it takes the lock once that is free.

use std::sync::Arc;
use std::time::Duration;

use shardfuse_store::{Location, Lock, Store};
use tokio::task::JoinHandle;

/// Between two attempts to take the lock. The other one ends as soon as it looks at its epoch.
const AGAIN: Duration = Duration::from_secs(1);

/// One that waits for the lock, and has it then. Dropping it gives the lock back.
#[derive(Debug)]
pub(super) struct Heir(JoinHandle<()>);

impl Heir {
    pub(super) fn of(store: Arc<dyn Store>, output: Location) -> Heir {
        Heir(tokio::spawn(async move {
            loop {
                tokio::time::sleep(AGAIN).await;
                // A store that is away for a while is the merge's to report.
                if let Ok(Lock::Held(_hold)) = store.lock(&output).await {
                    return std::future::pending().await;
                }
            }
        }))
    }

    /// Stops, and returns when the lock is free.
    pub(super) async fn stop(mut self) {
        self.0.abort();
        // It was stopped: there is no result.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        self.0.abort();
    }
}
