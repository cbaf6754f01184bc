//! An endpoint that does not answer is named in the log, while the tries go on.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use super::broken::Broken;

/// How long the first answer of an endpoint may take until the log says that there is none.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// Requests in a row that broke. One alone is normal: a server closes connections that were idle.
const IN_A_ROW: u32 = 2;

/// What is known of the answers of one store.
#[derive(Debug)]
pub(super) struct Silence {
    store: String,
    /// Whether there ever was one.
    answered: AtomicBool,
    /// Requests without an answer since the last one.
    broken: AtomicU32,
    /// Whether the log says that there is none.
    said: AtomicBool,
}

impl Silence {
    /// A store that was not asked yet.
    pub(super) fn of(store: String) -> Self {
        Self { store, answered: AtomicBool::default(), broken: AtomicU32::default(), said: AtomicBool::default() }
    }

    /// Waits for a request, and says in the log that nothing answers at `endpoint`, once until something does.
    pub(super) async fn watch<T>(
        &self,
        endpoint: &str,
        request: impl Future<Output = Result<T, Broken>>,
    ) -> Result<T, Broken> {
        tokio::pin!(request);
        let result = match self.answered.load(Ordering::Relaxed) {
            true => request.await,
            false => match tokio::time::timeout(FIRST_ANSWER, &mut request).await {
                Ok(result) => result,
                Err(_) => {
                    self.say(endpoint, &format!("nothing for {} s", FIRST_ANSWER.as_secs()));
                    request.await
                }
            },
        };
        match &result {
            Ok(_) => self.answer(endpoint),
            // Nothing was sent, or nothing is tried again: the error of the call says so.
            Err(broken) if broken.for_good => {}
            Err(broken) => {
                let in_a_row = self.broken.fetch_add(1, Ordering::Relaxed) + 1;
                if in_a_row >= IN_A_ROW || !self.answered.load(Ordering::Relaxed) {
                    self.say(endpoint, &broken.to_string());
                }
            }
        }
        result
    }

    fn answer(&self, endpoint: &str) {
        self.answered.store(true, Ordering::Relaxed);
        self.broken.store(0, Ordering::Relaxed);
        if self.said.swap(false, Ordering::Relaxed) {
            info!(store = self.store, endpoint, "the endpoint answers again");
        }
    }

    fn say(&self, endpoint: &str, error: &str) {
        if !self.said.swap(true, Ordering::Relaxed) {
            warn!(
                store = self.store,
                endpoint, error, "the endpoint does not answer; trying again for up to two minutes"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn breaks(silence: &Silence) {
        let broken = silence.watch("http://here", async { Err::<(), _>(Broken::for_now("reset")) }).await;
        broken.unwrap_err();
    }

    fn said(silence: &Silence) -> bool {
        silence.said.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn an_endpoint_that_never_answered_is_named_at_once() {
        let silence = Silence::of("s3:models".into());
        breaks(&silence).await;
        assert!(said(&silence));
    }

    #[tokio::test]
    async fn one_that_answered_is_named_when_two_requests_in_a_row_break() {
        let silence = Silence::of("s3:models".into());
        silence.watch("http://here", async { Ok(()) }).await.unwrap();
        breaks(&silence).await;
        assert!(!said(&silence), "one broken request is normal");
        silence.watch("http://here", async { Ok(()) }).await.unwrap();
        breaks(&silence).await;
        assert!(!said(&silence), "not in a row");
        breaks(&silence).await;
        assert!(said(&silence));
        silence.watch("http://here", async { Ok(()) }).await.unwrap();
        assert!(!said(&silence), "the next outage is named again");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_named_before_three_seconds() {
        let silence = Silence::of("s3:models".into());
        let request = silence.watch("http://here", std::future::pending::<Result<(), Broken>>());
        assert!(tokio::time::timeout(Duration::from_secs(3), request).await.is_err());
        assert!(said(&silence));
    }
}
