//! Object storage: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! **Consistency.** The stores' own: a read after a write sees it, an object appears whole. A [`Pin`] is the ETag, and a
//! pinned read is a conditional request. Where nobody promises that all of its answer is of one version, the pin is looked
//! at again afterwards ([`read`]). Create-if-absent is a conditional request too; a store that ignores conditions
//! is told by [`Store::conditional_puts`], nothing else notices.
//!
//! **Reads** longer than [`read::RANGE`] go over several connections at a time. One whose connection breaks goes on
//! where it stopped, at most three times and only while each connection brings something.
//!
//! **Uploads** are the stores' multipart uploads. Azure has none, only blocks that a list makes a blob: there a small
//! object `.shardfuse/upload/<name>.<id>` beside the target stands for the upload, so that whoever comes late is told
//! so; beginning another upload to the same path ends the older one. Elsewhere uploads to one path do not see each other.
//! An upload's id also tells which version of the object was there when it began, so that one which was lost is not
//! taken for completed because an older object of the same length is there. What a store says of a completion is held
//! against the object that is there afterwards.
//!
//! A part that is a range of another object is copied by S3 itself, if the settings of both are the same ([`compose`]). Whether
//! another service than Amazon's knows such copies is tried once, in an upload of its own ([`trial`]).
//!
//! **Retry.** Nothing here retries but the reads that go on; [`Retrying`](crate::Retrying) does. **Crash.** Whatever a
//! store acknowledged is durable.

use async_trait::async_trait;
use bytes::Bytes;

use crate::chunk::{Chunk, Copies};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, Pin, UploadId};
use crate::location::{Location, Scheme};
use crate::store::{Completion, Entry, Limits, Meta, PartSlot, Store};

mod advice;
mod bucket;
mod compose;
mod condition;
mod connect;
mod deletes;
mod environment;
mod failure;
mod ids;
mod in_progress;
mod list;
mod marker;
mod marker_name;
mod pending;
mod read;
mod server_copy;
mod service;
#[cfg(test)]
mod tests;
mod trial;
mod upload;
mod verdict;
mod wire;
mod write;

pub(crate) use connect::connect;
pub(crate) use environment::Environment;
pub(crate) use wire::{Connections, Timeouts};

use bucket::Bucket;
use pending::Pending;

#[async_trait]
impl Store for Bucket {
    fn limits(&self, _: &Location) -> Limits {
        let limits = match self.scheme {
            // https://learn.microsoft.com/rest/api/storageservices/understanding-block-blobs: 50,000 blocks of 4,000 MiB.
            Scheme::Azure => Limits { min_part: 0, max_part: 4_000 << 20, max_parts: 50_000 },
            // https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html, and the same for Google's XML interface
            // (https://cloud.google.com/storage/quotas): 10,000 parts of 5 MiB to 5 GiB.
            _ => Limits { min_part: 5 << 20, max_part: 5 << 30, max_parts: 10_000 },
        };
        Limits { min_part: self.min_part.unwrap_or(limits.min_part), ..limits }
    }

    async fn head(&self, at: &Location) -> Result<Meta> {
        read::head(self, at).await
    }

    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        read::read(self, at, offset, buf, pin).await
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        list::list(self, dir).await
    }

    async fn put(&self, at: &Location, bytes: Bytes) -> Result<()> {
        write::put(self, at, &bytes).await
    }

    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()> {
        write::create(self, at, &bytes).await
    }

    /// Bytes go through this process: the stores' own copies cannot be held to a pin by all of them.
    async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
        crate::copy::copy((self, from), (self, to), pin).await
    }

    async fn delete(&self, at: &Location) -> Result<()> {
        write::delete(self, at).await
    }

    async fn delete_if(&self, at: &Location, pin: &Pin) -> Result<()> {
        condition::delete_if(self, at, pin).await
    }

    async fn delete_tree(&self, dir: &Location) -> Result<()> {
        write::delete_tree(self, dir).await
    }

    /// There are no folders.
    async fn remove_empty_dir(&self, _: &Location) -> Result<()> {
        Ok(())
    }

    /// An interrupted write leaves nothing.
    async fn sweep(&self, _: &Location) -> Result<()> {
        Ok(())
    }

    async fn begin(&self, at: &Location, size: u64) -> Result<UploadId> {
        upload::begin(self, at, size).await
    }

    async fn probe(&self, at: &Location, upload: &UploadId) -> Result<bool> {
        upload::probe(self, at, upload).await
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        upload::put_part(self, at, upload, part, &bytes).await
    }

    async fn copies(&self, from: &Location, _: &Location) -> Result<Copies> {
        Ok(compose::copies(self, from))
    }

    async fn compose_part(
        &self,
        at: &Location,
        upload: &UploadId,
        part: PartSlot,
        chunks: Vec<Chunk>,
    ) -> Result<PartId> {
        compose::compose_part(self, at, upload, part, chunks).await
    }

    fn may_be_part(&self, _: PartSlot, length: u64, id: &PartId) -> bool {
        ids::may_be_part(id, length, matches!(self.pending, Pending::Marked))
    }

    async fn read_part(&self, at: &Location, _: &UploadId, _: u64, _: Vec<u8>) -> Result<Vec<u8>> {
        Err(Error::new(ErrorKind::Unsupported, at, "a part of an upload cannot be read back from object storage"))
    }

    async fn complete(&self, at: &Location, what: Completion<'_>) -> Result<Option<Pin>> {
        upload::complete(self, at, what).await
    }

    async fn abort(&self, at: &Location, upload: &UploadId) -> Result<()> {
        upload::abort(self, at, upload).await
    }

    async fn boot_id(&self, _: &Location) -> Result<Option<String>> {
        Ok(None)
    }

    async fn space(&self, _: &Location) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn check_output(&self, dir: &Location) -> Result<()> {
        upload::check_output(self, dir).await
    }

    async fn conditional_puts(&self, dir: &Location) -> Result<bool> {
        write::conditional_puts(self, dir).await
    }
}
