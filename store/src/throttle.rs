//! A limit on the rate of writing, so that a merge leaves room on a shared disk or line.
//!
//! Only parts count: they are all but the last megabytes of what is written. What a store copies into a part by itself does not
//! count. Everything else passes as it is, with the
//! consistency, retry and crash behaviour of the store within.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::chunk::Chunk;
use crate::decorator;
use crate::error::Result;
use crate::id::{PartId, UploadId};
use crate::location::Location;
use crate::operation::Operation;
use crate::store::{Meta, PartSlot, Store};

/// A store that takes at most so many bytes of parts a second, over all uploads and callers together.
#[derive(Debug)]
pub struct Throttled {
    inner: Arc<dyn Store>,
    rate: Arc<Rate>,
}

/// A rate that several stores keep to together.
#[derive(Debug)]
pub(crate) struct Rate {
    bytes_per_second: NonZeroU64,
    /// When the rate allows the next part.
    free_at: Mutex<Option<Instant>>,
}

impl Throttled {
    /// Limits a store.
    pub fn new(inner: Arc<dyn Store>, bytes_per_second: NonZeroU64) -> Self {
        Self::sharing(inner, Arc::new(Rate::new(bytes_per_second)))
    }

    /// Limits a store together with others.
    pub(crate) fn sharing(inner: Arc<dyn Store>, rate: Arc<Rate>) -> Self {
        Self { inner, rate }
    }
}

impl Rate {
    pub(crate) fn new(bytes_per_second: NonZeroU64) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(None) }
    }

    /// Books `bytes` and returns when they may start. A part starts at once after a pause; those behind it wait as
    /// long as it takes at the rate. Time in which nothing was written is not saved up, so there are no bursts.
    fn book(&self, bytes: u64) -> Instant {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free_at.map_or(now, |free_at| free_at.max(now));
        *free_at = start.checked_add(takes).or(*free_at);
        start
    }
}

#[async_trait]
impl decorator::Decorator for Throttled {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn call<T, F, M>(&self, _: Operation, _: &Location, mut make: M) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
        M: FnMut() -> F + Send,
    {
        make().await
    }

    async fn get(&self, at: &Location, limit: u64) -> Result<(Bytes, Meta)> {
        self.inner.get(at, limit).await
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        tokio::time::sleep_until(self.rate.book(bytes.len() as u64)).await;
        self.inner.put_part(at, upload, part, bytes).await
    }

    async fn compose_part(
        &self,
        at: &Location,
        upload: &UploadId,
        part: PartSlot,
        chunks: Vec<Chunk>,
    ) -> Result<PartId> {
        let (put, _) = Chunk::sums(&chunks);
        if put > 0 {
            tokio::time::sleep_until(self.rate.book(put)).await;
        }
        self.inner.compose_part(at, upload, part, chunks).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    #[tokio::test(start_paused = true)]
    async fn bytes_that_the_store_copies_do_not_wait() {
        let store = Throttled::new(Arc::new(Memory::new()), NonZeroU64::new(1000).unwrap());
        let at: Location = "s3://bucket/x".parse().unwrap();
        store.put(&at, vec![7; 60_000].into()).await.unwrap();
        let pin = store.head(&at).await.unwrap().pin;
        let upload = store.begin(&at, 1).await.unwrap();
        let start = Instant::now();
        for _ in 0..3 {
            let copy = Chunk::Copy { from: at.clone(), range: 0..60_000, pin: pin.clone() };
            let chunks = vec![Chunk::Bytes(vec![0; 500].into()), copy.clone()];
            store.compose_part(&at, &upload, PartSlot { number: 0, offset: 0 }, vec![copy]).await.unwrap();
            store.compose_part(&at, &upload, PartSlot { number: 1, offset: 0 }, chunks).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::from_secs(1), "the third waits for the 500 bytes of the two before it");
    }

    #[tokio::test(start_paused = true)]
    async fn parts_wait_for_their_turn_and_pauses_are_not_saved_up() {
        let store = Rate::new(NonZeroU64::new(1000).unwrap());
        let start = Instant::now();
        assert_eq!(store.book(500), start);
        assert_eq!(store.book(1500), start + Duration::from_millis(500));
        assert_eq!(store.book(1), start + Duration::from_secs(2));
        tokio::time::advance(Duration::from_secs(60)).await;
        let later = Instant::now();
        assert_eq!(store.book(2000), later);
        assert_eq!(store.book(0), later + Duration::from_secs(2));
    }
}
