//! A store that cannot be reached, and says so whenever it is asked for something.
//!
//! Opening a store is cheap and cannot fail; what is wrong with it shows at the first call, with the location.

use async_trait::async_trait;
use bytes::Bytes;

use crate::chunk::{Chunk, Copies};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::store::{Completion, Entry, Lock, Meta, PartSlot, Store};

/// Answers every call with one error. Only the place of a location and the limits of parts are known without asking.
#[derive(Debug)]
pub(crate) struct Refused {
    kind: ErrorKind,
    message: String,
}

impl Refused {
    /// The kind and message of every answer.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    fn no<T>(&self, at: &Location) -> Result<T> {
        Err(Error::new(self.kind, at, self.message.clone()))
    }
}

#[async_trait]
impl Store for Refused {
    async fn resolve(&self, at: &Location) -> Result<Location> {
        self.no(at)
    }

    async fn links(&self, dir: &Location) -> Result<Vec<String>> {
        self.no(dir)
    }

    async fn beside(&self, at: &Location) -> Result<Vec<String>> {
        self.no(at)
    }

    async fn lock(&self, dir: &Location) -> Result<Lock> {
        self.no(dir)
    }

    async fn head(&self, at: &Location) -> Result<Meta> {
        self.no(at)
    }

    async fn read(&self, at: &Location, _: u64, _: Vec<u8>, _: Option<&Pin>) -> Result<Vec<u8>> {
        self.no(at)
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        self.no(dir)
    }

    async fn put(&self, at: &Location, _: Bytes) -> Result<()> {
        self.no(at)
    }

    async fn create(&self, at: &Location, _: Bytes) -> Result<()> {
        self.no(at)
    }

    async fn copy(&self, from: &Location, _: &Location, _: Option<&Pin>) -> Result<()> {
        self.no(from)
    }

    async fn delete(&self, at: &Location) -> Result<()> {
        self.no(at)
    }

    async fn delete_if(&self, at: &Location, _: &Pin) -> Result<()> {
        self.no(at)
    }

    async fn delete_tree(&self, dir: &Location) -> Result<()> {
        self.no(dir)
    }

    async fn remove_empty_dir(&self, dir: &Location) -> Result<()> {
        self.no(dir)
    }

    async fn sweep(&self, dir: &Location) -> Result<()> {
        self.no(dir)
    }

    async fn begin(&self, at: &Location, _: u64) -> Result<UploadId> {
        self.no(at)
    }

    async fn probe(&self, at: &Location, _: &UploadId) -> Result<bool> {
        self.no(at)
    }

    async fn put_part(&self, at: &Location, _: &UploadId, _: PartSlot, _: Bytes) -> Result<PartId> {
        self.no(at)
    }

    async fn copies(&self, _: &Location, to: &Location) -> Result<Copies> {
        self.no(to)
    }

    async fn compose_part(&self, at: &Location, _: &UploadId, _: PartSlot, _: Vec<Chunk>) -> Result<PartId> {
        self.no(at)
    }

    async fn read_part(&self, at: &Location, _: &UploadId, _: u64, _: Vec<u8>) -> Result<Vec<u8>> {
        self.no(at)
    }

    fn may_be_part(&self, _: PartSlot, _: u64, _: &PartId) -> bool {
        false
    }

    async fn complete(&self, at: &Location, _: Completion<'_>) -> Result<Option<Pin>> {
        self.no(at)
    }

    async fn abort(&self, at: &Location, _: &UploadId) -> Result<()> {
        self.no(at)
    }

    async fn boot_id(&self, at: &Location) -> Result<Option<String>> {
        self.no(at)
    }

    async fn space(&self, at: &Location) -> Result<Option<u64>> {
        self.no(at)
    }

    async fn check_output(&self, dir: &Location) -> Result<()> {
        self.no(dir)
    }

    async fn conditional_puts(&self, dir: &Location) -> Result<bool> {
        self.no(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_neither_resolved_nor_listed_by_a_store_that_refuses() {
        let store = Refused::new(ErrorKind::Permission, "has no key");
        let at: Location = "s3://bucket/model".parse().unwrap();
        let refusals = [
            store.resolve(&at).await.unwrap_err(),
            store.links(&at).await.unwrap_err(),
            store.beside(&at).await.unwrap_err(),
            store.lock(&at).await.unwrap_err(),
            store.list(&at).await.unwrap_err(),
            store.get(&at, 1).await.unwrap_err(),
        ];
        for refusal in refusals {
            assert_eq!(refusal.kind(), ErrorKind::Permission, "{refusal}");
            assert!(refusal.to_string().contains("s3://bucket/model"), "{refusal}");
        }
    }
}
