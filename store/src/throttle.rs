//! A limit on the rate of writing, so that a merge leaves room on a shared disk or line.
//!
//! Only parts count: they are all but the last megabytes of what is written. Everything else passes as it is, with the
//! consistency, retry and crash behaviour of the store within.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::error::Result;
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::place::Place;
use crate::store::{Entry, Limits, Meta, PartSlot, Store};

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
    fn book(&self, bytes: usize) -> Instant {
        let nanoseconds = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let now = Instant::now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free_at.map_or(now, |free_at| free_at.max(now));
        *free_at = start.checked_add(takes).or(*free_at);
        start
    }
}

#[async_trait]
impl Store for Throttled {
    fn limits(&self, at: &Location) -> Limits {
        self.inner.limits(at)
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        tokio::time::sleep_until(self.rate.book(bytes.len())).await;
        self.inner.put_part(at, upload, part, bytes).await
    }

    async fn resolve(&self, at: &Location) -> Result<Location> {
        self.inner.resolve(at).await
    }

    async fn place(&self, at: &Location) -> Result<Place> {
        self.inner.place(at).await
    }

    async fn head(&self, at: &Location) -> Result<Meta> {
        self.inner.head(at).await
    }

    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        self.inner.read(at, offset, buf, pin).await
    }

    async fn get(&self, at: &Location, limit: u64) -> Result<(Bytes, Meta)> {
        self.inner.get(at, limit).await
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        self.inner.list(dir).await
    }

    async fn links(&self, dir: &Location) -> Result<Vec<String>> {
        self.inner.links(dir).await
    }

    async fn put(&self, at: &Location, bytes: Bytes) -> Result<()> {
        self.inner.put(at, bytes).await
    }

    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()> {
        self.inner.create(at, bytes).await
    }

    async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
        self.inner.copy(from, to, pin).await
    }

    async fn delete(&self, at: &Location) -> Result<()> {
        self.inner.delete(at).await
    }

    async fn delete_if(&self, at: &Location, pin: &Pin) -> Result<()> {
        self.inner.delete_if(at, pin).await
    }

    async fn delete_tree(&self, dir: &Location) -> Result<()> {
        self.inner.delete_tree(dir).await
    }

    async fn remove_empty_dir(&self, dir: &Location) -> Result<()> {
        self.inner.remove_empty_dir(dir).await
    }

    async fn sweep(&self, dir: &Location) -> Result<()> {
        self.inner.sweep(dir).await
    }

    async fn begin(&self, at: &Location, size: u64) -> Result<UploadId> {
        self.inner.begin(at, size).await
    }

    async fn probe(&self, at: &Location, upload: &UploadId) -> Result<bool> {
        self.inner.probe(at, upload).await
    }

    async fn read_part(&self, at: &Location, upload: &UploadId, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>> {
        self.inner.read_part(at, upload, offset, buf).await
    }

    fn may_be_part(&self, part: PartSlot, length: u64, id: &PartId) -> bool {
        self.inner.may_be_part(part, length, id)
    }

    async fn complete(
        &self,
        at: &Location,
        upload: &UploadId,
        parts: &[(u32, PartId)],
        size: u64,
    ) -> Result<Option<Pin>> {
        self.inner.complete(at, upload, parts, size).await
    }

    async fn abort(&self, at: &Location, upload: &UploadId) -> Result<()> {
        self.inner.abort(at, upload).await
    }

    async fn boot_id(&self, at: &Location) -> Result<Option<String>> {
        self.inner.boot_id(at).await
    }

    async fn space(&self, at: &Location) -> Result<Option<u64>> {
        self.inner.space(at).await
    }

    async fn check_output(&self, dir: &Location) -> Result<()> {
        self.inner.check_output(dir).await
    }

    async fn conditional_puts(&self, dir: &Location) -> Result<bool> {
        self.inner.conditional_puts(dir).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
