//! A sign of life, written again and again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shardfuse_merge::Result;
use shardfuse_store::{Location, Store};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::debug;

use crate::failure::io;
use crate::state::token;

/// Between two beats of an owner.
const BEAT: Duration = Duration::from_secs(5);
/// The largest beat that is read, in bytes.
pub(super) const MOST: u64 = 4 << 10;

/// What an owner writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beat {
    /// Drawn by each owner, so that no two write the same.
    token: String,
    /// The name of its machine.
    host: String,
    /// Its process there.
    process: u32,
    /// Counts.
    beat: u64,
    /// Whether it stopped, and its merge can go on.
    pub(super) stopped: bool,
}

impl Beat {
    fn first() -> Beat {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Beat { token: token(), host, process: std::process::id(), beat: 0, stopped: false }
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Beat> {
        serde_json::from_slice(bytes).ok()
    }

    async fn put(&self, store: &dyn Store, at: &Location) -> shardfuse_store::Result<()> {
        store.put(at, serde_json::to_vec(self).unwrap_or_default().into()).await
    }
}

impl fmt::Display for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.process, self.host)
    }
}

/// An owner that beats. Dropping it stops the beats and leaves the last one.
#[derive(Debug)]
pub(super) struct Beating {
    store: Arc<dyn Store>,
    at: Location,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Beat>,
}

impl Beating {
    /// Writes the first beat, and then one every [`BEAT`].
    pub(super) async fn start(store: Arc<dyn Store>, at: Location) -> Result<Beating> {
        let mut beat = Beat::first();
        beat.put(&*store, &at).await.map_err(io)?;
        let (stop, mut stopped) = oneshot::channel();
        let (to, place) = (Arc::clone(&store), at.clone());
        let task = tokio::spawn(async move {
            while tokio::time::timeout(BEAT, &mut stopped).await.is_err() {
                beat.beat += 1;
                // A store that is away for a while is the merge's to report.
                if let Err(error) = beat.put(&*to, &place).await {
                    debug!(at = %place, error = %error.chain(), "no sign of life could be written");
                }
            }
            beat
        });
        Ok(Beating { store, at, stop, task })
    }

    /// Stops, and says so if the merge can go on, or else removes the beat.
    pub(super) async fn stop(self, begun: bool) {
        let Beating { store, at, stop, task } = self;
        let _ = stop.send(());
        let Ok(mut beat) = task.await else { return };
        let done = match begun {
            true => {
                beat.stopped = true;
                beat.put(&*store, &at).await
            }
            false => remove(&*store, &at).await,
        };
        if let Err(error) = done {
            debug!(%at, error = %error.chain(), "the last sign of life stays");
        }
    }
}

/// Removes the beat, and the folder of the state if that was all of it.
async fn remove(store: &dyn Store, at: &Location) -> shardfuse_store::Result<()> {
    store.delete(at).await?;
    match at.parent() {
        Some(folder) => store.remove_empty_dir(&folder).await,
        None => Ok(()),
    }
}
