//! A store that is counted: calls by what came of them, and the bytes of objects that were moved.
//!
//! | metric | labels |
//! |---|---|
//! | `shardfuse_store_requests_total` | `store`, `operation`, `outcome`: `ok`, `throttled`, `error` |
//! | `shardfuse_store_bytes_total` | `store`, `direction`: `read`, `write`; only what arrived whole |
//!
//! That nothing is there, or something already, is an answer and counts as `ok`. A call is one request for most
//! operations; listing, completing and a read of many MiB are several, which
//! `shardfuse_store_http_requests_total` counts one by one.
//!
//! It stands below [`Retrying`](crate::retry::Retrying), so every try is counted. Consistency, retry, cancellation and
//! crash behaviour are those of the store within.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::place::Place;
use crate::store::{Entry, Limits, Meta, PartSlot, Store};

/// What may come of a call.
const OUTCOMES: [&str; 3] = ["ok", "throttled", "error"];

/// A store that is counted.
#[derive(Debug)]
pub struct Counted {
    inner: Arc<dyn Store>,
}

/// The store of a location as metrics name it: scheme and bucket or host, never a path, so that names stay few.
pub fn name(at: &Location) -> String {
    match at.authority() {
        "" => at.scheme().name().to_owned(),
        authority => format!("{}://{authority}", at.scheme()),
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Read,
    Write,
}

impl Counted {
    /// Counts a store's calls.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner }
    }
}

/// Counts a call, and hands on what came of it.
async fn counted<T>(at: &Location, operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
    let result = call.await;
    let came = match &result {
        Ok(_) => "ok",
        Err(e) if e.kind().is_answer() => "ok",
        Err(e) if e.is_throttled() => "throttled",
        Err(_) => "error",
    };
    let store = name(at);
    for outcome in OUTCOMES {
        // Those that did not come stand there with what they had, at first 0: a rate needs a value before the first fault.
        metrics::counter!(
            "shardfuse_store_requests_total", "store" => store.clone(), "operation" => operation, "outcome" => outcome
        )
        .increment(u64::from(outcome == came));
    }
    result
}

fn moved(at: &Location, direction: Direction, bytes: usize) {
    let direction = match direction {
        Direction::Read => "read",
        Direction::Write => "write",
    };
    metrics::counter!("shardfuse_store_bytes_total", "store" => name(at), "direction" => direction)
        .increment(bytes as u64);
}

#[async_trait]
impl Store for Counted {
    fn limits(&self, at: &Location) -> Limits {
        self.inner.limits(at)
    }

    async fn resolve(&self, at: &Location) -> Result<Location> {
        counted(at, "resolve", self.inner.resolve(at)).await
    }

    /// Costs no request, so it is not counted.
    async fn place(&self, at: &Location) -> Result<Place> {
        self.inner.place(at).await
    }

    async fn head(&self, at: &Location) -> Result<Meta> {
        counted(at, "head", self.inner.head(at)).await
    }

    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        let buf = counted(at, "read", self.inner.read(at, offset, buf, pin)).await?;
        moved(at, Direction::Read, buf.len());
        Ok(buf)
    }

    async fn get(&self, at: &Location, limit: u64) -> Result<(Bytes, Meta)> {
        let (bytes, meta) = counted(at, "get", self.inner.get(at, limit)).await?;
        moved(at, Direction::Read, bytes.len());
        Ok((bytes, meta))
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        counted(dir, "list", self.inner.list(dir)).await
    }

    async fn links(&self, dir: &Location) -> Result<Vec<String>> {
        counted(dir, "list", self.inner.links(dir)).await
    }

    async fn put(&self, at: &Location, bytes: Bytes) -> Result<()> {
        let length = bytes.len();
        counted(at, "put", self.inner.put(at, bytes)).await?;
        moved(at, Direction::Write, length);
        Ok(())
    }

    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()> {
        let length = bytes.len();
        counted(at, "create", self.inner.create(at, bytes)).await?;
        moved(at, Direction::Write, length);
        Ok(())
    }

    /// The store copies by itself; no byte comes by here.
    async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
        counted(to, "copy", self.inner.copy(from, to, pin)).await
    }

    async fn delete(&self, at: &Location) -> Result<()> {
        counted(at, "delete", self.inner.delete(at)).await
    }

    async fn delete_if(&self, at: &Location, pin: &Pin) -> Result<()> {
        counted(at, "delete_if", self.inner.delete_if(at, pin)).await
    }

    async fn delete_tree(&self, dir: &Location) -> Result<()> {
        counted(dir, "delete_tree", self.inner.delete_tree(dir)).await
    }

    async fn remove_empty_dir(&self, dir: &Location) -> Result<()> {
        counted(dir, "remove_empty_dir", self.inner.remove_empty_dir(dir)).await
    }

    async fn sweep(&self, dir: &Location) -> Result<()> {
        counted(dir, "sweep", self.inner.sweep(dir)).await
    }

    async fn begin(&self, at: &Location, size: u64) -> Result<UploadId> {
        counted(at, "begin", self.inner.begin(at, size)).await
    }

    async fn probe(&self, at: &Location, upload: &UploadId) -> Result<bool> {
        counted(at, "probe", self.inner.probe(at, upload)).await
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        let length = bytes.len();
        let id = counted(at, "put_part", self.inner.put_part(at, upload, part, bytes)).await?;
        moved(at, Direction::Write, length);
        Ok(id)
    }

    async fn read_part(&self, at: &Location, upload: &UploadId, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>> {
        let buf = counted(at, "read_part", self.inner.read_part(at, upload, offset, buf)).await?;
        moved(at, Direction::Read, buf.len());
        Ok(buf)
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
        counted(at, "complete", self.inner.complete(at, upload, parts, size)).await
    }

    async fn abort(&self, at: &Location, upload: &UploadId) -> Result<()> {
        counted(at, "abort", self.inner.abort(at, upload)).await
    }

    /// Known without asking anybody.
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
        counted(dir, "conditional_puts", self.inner.conditional_puts(dir)).await
    }
}

#[cfg(test)]
mod tests;
