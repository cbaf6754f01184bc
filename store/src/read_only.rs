//! Stores from which one can only read: what they can do, and the refusal of all else.

use async_trait::async_trait;
use bytes::Bytes;

use crate::chunk::Chunk;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::store::{Completion, Entry, Meta, PartSlot, Store};

/// The reading half of a [`Store`]. Each method means what the store's method of that name means.
#[allow(missing_docs, reason = "the methods are documented at Store")]
#[async_trait]
pub trait Readable: Send + Sync + std::fmt::Debug + 'static {
    /// How a refusal names the store: "http".
    fn name(&self) -> &'static str;

    async fn resolve(&self, at: &Location) -> Result<Location>;

    async fn head(&self, at: &Location) -> Result<Meta>;

    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>>;

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>>;
}

/// A store that reads, and refuses every write (`Unsupported`).
#[derive(Debug)]
pub struct ReadOnly<R>(pub R);

impl<R: Readable> ReadOnly<R> {
    fn refuse<T>(&self, at: &Location) -> Result<T> {
        Err(Error::new(ErrorKind::Unsupported, at, format!("{} is read only", self.0.name())))
    }
}

#[async_trait]
impl<R: Readable> Store for ReadOnly<R> {
    async fn resolve(&self, at: &Location) -> Result<Location> {
        self.0.resolve(at).await
    }

    async fn head(&self, at: &Location) -> Result<Meta> {
        self.0.head(at).await
    }

    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        self.0.read(at, offset, buf, pin).await
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        self.0.list(dir).await
    }

    async fn put(&self, at: &Location, _: Bytes) -> Result<()> {
        self.refuse(at)
    }

    async fn create(&self, at: &Location, _: Bytes) -> Result<()> {
        self.refuse(at)
    }

    async fn copy(&self, _: &Location, to: &Location, _: Option<&Pin>) -> Result<()> {
        self.refuse(to)
    }

    async fn delete(&self, at: &Location) -> Result<()> {
        self.refuse(at)
    }

    async fn delete_if(&self, at: &Location, _: &Pin) -> Result<()> {
        self.refuse(at)
    }

    async fn delete_tree(&self, dir: &Location) -> Result<()> {
        self.refuse(dir)
    }

    async fn remove_empty_dir(&self, dir: &Location) -> Result<()> {
        self.refuse(dir)
    }

    async fn sweep(&self, dir: &Location) -> Result<()> {
        self.refuse(dir)
    }

    async fn begin(&self, at: &Location, _: u64) -> Result<UploadId> {
        self.refuse(at)
    }

    async fn probe(&self, at: &Location, _: &UploadId) -> Result<bool> {
        self.refuse(at)
    }

    async fn put_part(&self, at: &Location, _: &UploadId, _: PartSlot, _: Bytes) -> Result<PartId> {
        self.refuse(at)
    }

    async fn compose_part(&self, at: &Location, _: &UploadId, _: PartSlot, _: Vec<Chunk>) -> Result<PartId> {
        self.refuse(at)
    }

    async fn read_part(&self, at: &Location, _: &UploadId, _: u64, _: Vec<u8>) -> Result<Vec<u8>> {
        self.refuse(at)
    }

    fn may_be_part(&self, _: PartSlot, _: u64, _: &PartId) -> bool {
        false
    }

    async fn complete(&self, at: &Location, _: Completion<'_>) -> Result<Option<Pin>> {
        self.refuse(at)
    }

    async fn abort(&self, at: &Location, _: &UploadId) -> Result<()> {
        self.refuse(at)
    }

    async fn boot_id(&self, _: &Location) -> Result<Option<String>> {
        Ok(None)
    }

    async fn space(&self, _: &Location) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn check_output(&self, dir: &Location) -> Result<()> {
        self.refuse(dir)
    }
}
