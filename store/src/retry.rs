//! A store that tries again.
//!
//! Whether to, the kind of an error decides: `Transient` only. Pauses double from 0.2 s up to 20 s, each shortened at
//! random to anything between nothing and all of it, so that many workers who were turned away together do not come back
//! together; a store that says how long to stay away is obeyed. A call gives up after eight tries, or when the pauses
//! add up to two minutes: then its owner decides, a lease and a schedule stand above.
//!
//! **A lost reply.** What was done may be done again, with one exception: a `create` whose reply was lost answers
//! `AlreadyExists`, as if somebody else had come first. Whoever must know puts a name of its own into what it creates,
//! and looks. It never answers that it was first when it was not. A begin whose reply was lost leaves an upload that nobody
//! knows; a bucket's rule for incomplete uploads removes it.
//!
//! Reads give up their buffer with an error, so a repeated one takes new memory. `shardfuse_store_retries_total` counts
//! by `store`, `operation`, and `reason` (the beginning of what went wrong: `throttled` where the store had too many
//! calls, `failed` else).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;

use crate::counted;
use crate::decorator;
use crate::error::{Error, Result};
use crate::location::Location;
use crate::operation::Operation;
use crate::store::{Meta, Store};
use crate::token::random;

/// The longest pause that a store's wish is granted.
const LONGEST_WISH: Duration = Duration::from_secs(60);

/// A store that tries again what may work the next time.
#[derive(Debug)]
pub struct Retrying {
    inner: Arc<dyn Store>,
    pauses: ExponentialBuilder,
}

impl Retrying {
    /// Tries again as the module's documentation says.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(20))
            .with_max_times(7)
            .with_total_delay(Some(Duration::from_secs(120)));
        Self { inner, pauses }
    }
}

/// A random share of the pause, but at least what the store asked for.
fn adjusted(error: &Error, pause: Duration) -> Duration {
    let share = (random() >> 11) as f64 / (1u64 << 53) as f64;
    let wish = error.retry_after().unwrap_or_default().min(LONGEST_WISH);
    wish + pause.mul_f64(share)
}

#[async_trait]
impl decorator::Decorator for Retrying {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn call<T, F, M>(&self, operation: Operation, at: &Location, make: M) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
        M: FnMut() -> F + Send,
    {
        let operation = operation.name();
        make.retry(self.pauses)
            .when(|e: &Error| e.kind().is_transient())
            .adjust(|e: &Error, pause| pause.map(|pause| adjusted(e, pause)))
            .notify(|e: &Error, pause: Duration| {
                let reason = if e.is_throttled() { "throttled" } else { "failed" };
                let store = counted::name(at);
                metrics::counter!("shardfuse_store_retries_total", "store" => store, "operation" => operation, "reason" => reason)
                    .increment(1);
                tracing::info!(location = %at, operation, error = %e.chain(), pause_ms = pause.as_millis() as u64, "trying again");
            })
            .await
    }

    async fn get(&self, at: &Location, limit: u64) -> Result<(Bytes, Meta)> {
        decorator::Decorator::call(self, Operation::Get, at, || self.inner.get(at, limit)).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::chunk::Chunk;
    use crate::error::ErrorKind;
    use crate::fault::{Fault, Faulty, Operation};
    use crate::memory::Memory;
    use crate::store::PartSlot;

    fn place() -> (Arc<Faulty>, Retrying, Location) {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::new())));
        (faulty.clone(), Retrying::new(faulty), "s3://bucket/x".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_tried_again() {
        let (faulty, store, at) = place();
        faulty.plan_run(Operation::Put, 1, 3, Fault::Before(ErrorKind::Transient));
        store.put(&at, "x".into()).await.unwrap();
        assert_eq!(faulty.calls(Operation::Put), 4);
        for kind in [ErrorKind::Permission, ErrorKind::Changed, ErrorKind::InvalidPart, ErrorKind::Permanent] {
            let before = faulty.calls(Operation::Head);
            faulty.plan(Operation::Head, 1, Fault::Before(kind));
            assert_eq!(store.head(&at).await.unwrap_err().kind(), kind);
            assert_eq!(faulty.calls(Operation::Head), before + 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_is_composed_again_unless_its_store_cannot_copy() {
        let (faulty, store, at) = place();
        let upload = store.begin(&at, 1).await.unwrap();
        let compose = async || {
            let slot = PartSlot { number: 0, offset: 0 };
            store.compose_part(&at, &upload, slot, vec![Chunk::Bytes("x".into())]).await
        };
        faulty.plan_run(Operation::ComposePart, 1, 3, Fault::Before(ErrorKind::Transient));
        compose().await.unwrap();
        assert_eq!(faulty.calls(Operation::ComposePart), 4);
        faulty.plan(Operation::ComposePart, 1, Fault::Before(ErrorKind::Unsupported));
        assert_eq!(compose().await.unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(faulty.calls(Operation::ComposePart), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn it_gives_up_in_bounded_tries_and_time() {
        let (faulty, store, at) = place();
        faulty.plan_run(Operation::Read, 1, u64::MAX, Fault::Before(ErrorKind::Transient));
        let start = Instant::now();
        let error = store.read(&at, 0, vec![0; 4], None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transient);
        assert_eq!(faulty.calls(Operation::Read), 8);
        assert!(start.elapsed() <= Duration::from_secs(120), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_whose_reply_was_lost_never_claims_to_be_first() {
        let (faulty, store, at) = place();
        faulty.plan(Operation::Create, 1, Fault::After(ErrorKind::Transient));
        assert_eq!(store.create(&at, "x".into()).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(&store.get(&at, 9).await.unwrap().0[..], b"x");
    }

    #[test]
    fn a_stores_wish_is_granted_within_reason() {
        let asked =
            |seconds| Error::new(ErrorKind::Transient, "x", "slow down").with_retry_after(Duration::from_secs(seconds));
        let pause = Duration::from_secs(1);
        for _ in 0..100 {
            let plain = adjusted(&Error::new(ErrorKind::Transient, "x", "reset"), pause);
            assert!(plain <= pause);
            let wish = adjusted(&asked(7), pause);
            assert!(wish >= Duration::from_secs(7) && wish <= Duration::from_secs(8));
            assert!(adjusted(&asked(3600), pause) <= LONGEST_WISH + pause);
        }
    }
}
