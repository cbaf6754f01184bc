//! What a worker knows of copies that stores make by themselves.
//!
//! A store that cannot copy between two folders, or may not, costs one request; from then on the bytes are read and put.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use shardfuse_store::{Error, ErrorKind, Location, PartId};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tracing::info;

/// Copies that one worker asks for at a time.
const AT_A_TIME: usize = 32;

/// What a worker knows of copies.
#[derive(Debug)]
pub struct Copying {
    turns: Semaphore,
    between: Mutex<HashMap<(String, String), Arc<Between>>>,
    /// Bytes copied since the process began.
    pub bytes: AtomicU64,
}

/// What is known of copies between the folder of an input and that of an output.
#[derive(Debug, Default)]
pub struct Between {
    /// Whether the store has answered once. Until then one copy is asked for at a time.
    answered: OnceCell<()>,
    /// Whether it refused.
    refused: AtomicBool,
}

impl Default for Copying {
    fn default() -> Self {
        Copying { turns: Semaphore::new(AT_A_TIME), between: Mutex::default(), bytes: AtomicU64::new(0) }
    }
}

impl Copying {
    /// Waits for a turn to ask.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// What is known of copies between the folders of two files.
    pub fn between(&self, from: &Location, to: &Location) -> Arc<Between> {
        let mut known = self.between.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry((folder(from), folder(to))).or_default())
    }
}

/// A request for one copy.
pub type Request<'a> = dyn Fn() -> BoxFuture<'a, Result<PartId, Error>> + Send + Sync + 'a;

impl Between {
    /// Whether the store refused.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Asks for a copy. `None` if the store refuses, now or before.
    pub async fn ask(&self, copy: &Request<'_>) -> Result<Option<PartId>, Error> {
        let mut first = None;
        let answer = async {
            first = self.answer(copy).await?;
            Ok(())
        };
        self.answered.get_or_try_init(|| answer).await?;
        match first {
            Some(id) => Ok(Some(id)),
            None if self.is_refused() => Ok(None),
            None => self.answer(copy).await,
        }
    }

    async fn answer(&self, copy: &Request<'_>) -> Result<Option<PartId>, Error> {
        match copy().await {
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    info!(why = %e.chain(), "the store does not copy by itself: bytes are read and put");
                }
                Ok(None)
            }
            answer => answer.map(Some),
        }
    }
}

/// The folder of a file, by which refusals are remembered.
fn folder(at: &Location) -> String {
    at.parent().map_or_else(|| at.to_string(), |folder| folder.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use super::*;

    /// The store takes its time, so that all parts come before its first answer.
    #[tokio::test(start_paused = true)]
    async fn parts_wait_for_the_first_answer() {
        let (between, calls) = (Between::default(), AtomicU32::new(0));
        let ask = || -> BoxFuture<'_, Result<PartId, Error>> {
            calls.fetch_add(1, Ordering::Relaxed);
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Err(Error::new(ErrorKind::Unsupported, "s3://b/x", "no"))
            })
        };
        let all = futures::future::join_all((0..32).map(|_| between.ask(&ask))).await;
        assert!(all.iter().all(|answer| matches!(answer, Ok(None))));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}
