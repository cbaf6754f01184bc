//! A store that is counted: calls by what came of them, and the bytes of objects that were moved.
//!
//! | metric | labels |
//! |---|---|
//! | `shardfuse_store_requests_total` | `store`, `operation`, `outcome`: `ok`, `throttled`, `error` |
//! | `shardfuse_store_bytes_total` | `store`, `direction`: `read`, `write`, `copy`; only what arrived whole |
//!
//! That nothing is there, or something already, is an answer and counts as `ok`. A call is one request for most
//! operations; listing, completing and a read of many MiB are several, which
//! `shardfuse_store_http_requests_total` counts one by one. `copy` counts the bytes that a store copied into a part by
//! itself; [`Store::copy`] adds none.
//!
//! It stands below [`Retrying`](crate::retry::Retrying), so every try is counted. Consistency, retry, cancellation and
//! crash behaviour are those of the store within.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::chunk::Chunk;
use crate::decorator;
use crate::error::Result;
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::operation::Operation;
use crate::store::{Meta, PartSlot, Store};

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
    Copy,
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

fn moved(at: &Location, direction: Direction, bytes: u64) {
    let direction = match direction {
        Direction::Read => "read",
        Direction::Write => "write",
        Direction::Copy => "copy",
    };
    metrics::counter!("shardfuse_store_bytes_total", "store" => name(at), "direction" => direction).increment(bytes);
}

#[async_trait]
impl decorator::Decorator for Counted {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn call<T, F, M>(&self, operation: Operation, at: &Location, mut make: M) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
        M: FnMut() -> F + Send,
    {
        match operation {
            // Known without asking anybody.
            Operation::BootId | Operation::Space | Operation::CheckOutput => make().await,
            _ => counted(at, operation.name(), make()).await,
        }
    }

    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        let buf = counted(at, "read", self.inner.read(at, offset, buf, pin)).await?;
        moved(at, Direction::Read, buf.len() as u64);
        Ok(buf)
    }

    async fn get(&self, at: &Location, limit: u64) -> Result<(Bytes, Meta)> {
        let (bytes, meta) = counted(at, "get", self.inner.get(at, limit)).await?;
        moved(at, Direction::Read, bytes.len() as u64);
        Ok((bytes, meta))
    }

    async fn put(&self, at: &Location, bytes: Bytes) -> Result<()> {
        let length = bytes.len() as u64;
        counted(at, "put", self.inner.put(at, bytes)).await?;
        moved(at, Direction::Write, length);
        Ok(())
    }

    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()> {
        let length = bytes.len() as u64;
        counted(at, "create", self.inner.create(at, bytes)).await?;
        moved(at, Direction::Write, length);
        Ok(())
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        let length = bytes.len() as u64;
        let id = counted(at, "put_part", self.inner.put_part(at, upload, part, bytes)).await?;
        moved(at, Direction::Write, length);
        Ok(id)
    }

    async fn compose_part(
        &self,
        at: &Location,
        upload: &UploadId,
        part: PartSlot,
        chunks: Vec<Chunk>,
    ) -> Result<PartId> {
        let (put, copied) = Chunk::sums(&chunks);
        let id = counted(at, "compose_part", self.inner.compose_part(at, upload, part, chunks)).await?;
        moved(at, Direction::Write, put);
        moved(at, Direction::Copy, copied);
        Ok(id)
    }

    async fn read_part(&self, at: &Location, upload: &UploadId, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>> {
        let buf = counted(at, "read_part", self.inner.read_part(at, upload, offset, buf)).await?;
        moved(at, Direction::Read, buf.len() as u64);
        Ok(buf)
    }
}

#[cfg(test)]
mod tests;
