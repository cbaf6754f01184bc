//! Files on a local disk or a shared POSIX file system.
//!
//! **Consistency.** What a path shows changes by rename or by hard link only, never by writing into a visible file. A
//! pin is size and time of modification, taken from the open file before and after every read. Times of modification
//! are as fine as the kernel's clock tick (a few milliseconds): a rewrite in place, of equal length, within the tick in
//! which the pin was taken goes unseen.
//!
//! **Uploads** are hidden files at full length, `.shardfuse/upload/<name>.<id>` beside their target. The id holds the
//! length: a file of another one was cut short or written to by somebody, and counts as gone. A part is a write at its
//! offset. Writers hold the file's shared lock and completing takes the exclusive one, so that no late write
//! reaches a file that is visible already, from whatever process; where a file system has no locks, that rests on
//! equal parts having equal bytes. Parts are written past the page cache where the file system can, so the object is not
//! in memory when it is done.
//!
//! Ranges of other files become a part by shared blocks, on a file system that has those.
//!
//! **Crash.** Small files are synced, renamed, and their folder is synced. Of an upload only completing syncs, once;
//! parts put before a crash of the machine may be lost, which [`Store::boot_id`] tells. On file systems that several
//! machines share each part is synced before it counts. Interrupted small writes leave files named
//! `.shardfuse-tmp-*`, which no listing shows and [`Store::sweep`] removes. An interrupted [`Store::delete_if`] leaves
//! `.shardfuse-aside-<token>-<name>`, which [`Store::sweep`] gives its name back.
//!
//! **Links** are followed. For a process that acts on behalf of others, a file counts as where it really lies
//! ([`Stores::only`](crate::Stores::only)).
//!
//! **Retry.** Nothing here retries but interrupted system calls.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::chunk::{Chunk, Copies};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::place::Place;
use crate::store::{Completion, Entry, Lock, Meta, PartSlot, Store};

mod aside;
mod beside;
mod compose;
mod create;
mod direct;
mod fence;
mod file;
mod folder;
mod handles;
mod identity;
mod links;
mod list;
mod lock;
mod mount;
mod names;
mod read;
mod remove;
mod share;
mod space;
#[cfg(test)]
mod tests;
mod upload;
mod write;

pub(crate) use fence::Fence;
use handles::Handles;
use names::path;

/// Files on a local disk or a shared POSIX file system. The module's documentation says what holds.
///
/// System calls run on tokio's blocking threads, so every method must be called within a tokio runtime. How many run
/// at a time is the caller's choice.
#[derive(Clone, Debug, Default)]
pub struct Local {
    handles: Arc<Handles>,
    fence: Fence,
}

impl Local {
    /// A store for all `file://` locations.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, for files within a fence.
    pub(crate) fn within(fence: Fence) -> Self {
        Self { fence, ..Self::default() }
    }

    /// Closes what is kept open of a path that changed.
    fn forget(&self, at: &Location) -> Result<()> {
        self.handles.forget(path(at)?);
        Ok(())
    }

    /// Runs system calls on a location.
    async fn run<T: Send + 'static>(
        &self,
        at: &Location,
        work: impl FnOnce(&Self, &Location) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (local, at) = (self.clone(), at.clone());
        blocking(move || work(&local, &at)).await
    }

    /// Runs system calls on an upload to a location.
    async fn upload<T: Send + 'static>(
        &self,
        at: &Location,
        work: impl FnOnce(&Location) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(at, |local, at| {
            local.fence.check_uploads(at)?;
            work(at)
        })
        .await
    }
}

/// Runs system calls where they may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(Error::new(ErrorKind::Transient, "file", "the process is shutting down").with_source(e)),
    }
}

#[async_trait]
impl Store for Local {
    async fn place(&self, at: &Location) -> Result<Place> {
        self.run(at, |_, at| identity::place(at)).await
    }

    async fn head(&self, at: &Location) -> Result<Meta> {
        self.run(at, |local, at| read::head(&local.handles, &local.fence, at)).await
    }

    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        let pin = pin.cloned();
        self.run(at, move |local, at| {
            let from = read::Source { handles: &local.handles, fence: &local.fence };
            read::read(from, at, offset, buf, pin.as_ref())
        })
        .await
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        self.run(dir, |local, dir| {
            local.fence.check_folder(dir)?;
            list::list(&local.fence, dir)
        })
        .await
    }

    async fn links(&self, dir: &Location) -> Result<Vec<String>> {
        self.run(dir, |local, dir| {
            local.fence.check_folder(dir)?;
            links::links(dir)
        })
        .await
    }

    async fn beside(&self, at: &Location) -> Result<Vec<String>> {
        self.run(at, |local, at| {
            local.fence.check_parent(at)?;
            beside::beside(at)
        })
        .await
    }

    async fn lock(&self, dir: &Location) -> Result<Lock> {
        self.run(dir, |local, dir| {
            local.fence.check_folder(dir)?;
            lock::lock(dir)
        })
        .await
    }

    async fn put(&self, at: &Location, bytes: Bytes) -> Result<()> {
        self.run(at, move |local, at| {
            local.fence.check_parent(at)?;
            write::put(at, &bytes)?;
            local.forget(at)
        })
        .await
    }

    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()> {
        self.run(at, move |local, at| {
            local.fence.check_parent(at)?;
            create::create(at, &bytes)
        })
        .await
    }

    async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
        let (from, pin) = (from.clone(), pin.cloned());
        self.run(to, move |local, to| {
            local.fence.check_parent(to)?;
            write::copy(&local.fence, &from, to, pin.as_ref())?;
            local.forget(to)
        })
        .await
    }

    async fn delete(&self, at: &Location) -> Result<()> {
        self.run(at, |local, at| {
            local.fence.check_parent(at)?;
            local.forget(at)?;
            remove::delete(at)
        })
        .await
    }

    async fn delete_if(&self, at: &Location, pin: &Pin) -> Result<()> {
        let pin = pin.clone();
        self.run(at, move |local, at| {
            local.fence.check_parent(at)?;
            local.forget(at)?;
            aside::delete_if(&local.fence, at, &pin)
        })
        .await
    }

    async fn delete_tree(&self, dir: &Location) -> Result<()> {
        self.run(dir, |local, dir| {
            local.fence.check_parent(dir)?;
            local.forget(dir)?;
            remove::delete_tree(dir)
        })
        .await
    }

    async fn remove_empty_dir(&self, dir: &Location) -> Result<()> {
        self.run(dir, |local, dir| {
            local.fence.check_folder(dir)?;
            remove::remove_empty_dir(dir)
        })
        .await
    }

    async fn sweep(&self, dir: &Location) -> Result<()> {
        self.run(dir, |local, dir| {
            local.fence.check_folder(dir)?;
            remove::sweep(dir)
        })
        .await
    }

    async fn begin(&self, at: &Location, size: u64) -> Result<UploadId> {
        self.upload(at, move |at| upload::begin(at, size)).await
    }

    async fn probe(&self, at: &Location, upload: &UploadId) -> Result<bool> {
        let upload = upload.clone();
        self.upload(at, move |at| upload::probe(at, &upload)).await
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        let upload = upload.clone();
        self.upload(at, move |at| upload::put_part(at, &upload, part, &bytes)).await
    }

    async fn copies(&self, from: &Location, to: &Location) -> Result<Copies> {
        let from = from.clone();
        self.run(to, move |local, to| {
            local.fence.check_uploads(to)?;
            compose::copies(&local.fence, &from, to)
        })
        .await
    }

    async fn compose_part(
        &self,
        at: &Location,
        upload: &UploadId,
        part: PartSlot,
        chunks: Vec<Chunk>,
    ) -> Result<PartId> {
        let upload = upload.clone();
        self.run(at, move |local, at| {
            local.fence.check_uploads(at)?;
            let from = read::Source { handles: &local.handles, fence: &local.fence };
            compose::compose_part(from, at, &upload, part, &chunks)
        })
        .await
    }

    async fn read_part(&self, at: &Location, upload: &UploadId, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>> {
        let upload = upload.clone();
        self.upload(at, move |at| upload::read_part(at, &upload, offset, buf)).await
    }

    fn may_be_part(&self, part: PartSlot, length: u64, id: &PartId) -> bool {
        upload::may_be_part(part, length, id)
    }

    async fn complete(&self, at: &Location, what: Completion<'_>) -> Result<Option<Pin>> {
        let Completion { upload, parts, size } = what;
        upload::check_parts(at, parts, size)?;
        let upload = upload.clone();
        let made = self.upload(at, move |at| upload::complete(at, &upload, size)).await?;
        self.forget(at)?;
        Ok(made)
    }

    async fn abort(&self, at: &Location, upload: &UploadId) -> Result<()> {
        let upload = upload.clone();
        self.upload(at, move |at| upload::abort(at, &upload)).await
    }

    async fn boot_id(&self, at: &Location) -> Result<Option<String>> {
        self.run(at, |local, at| {
            local.fence.check_folder(at)?;
            mount::boot_id(at)
        })
        .await
    }

    async fn space(&self, at: &Location) -> Result<Option<u64>> {
        self.run(at, |local, at| {
            local.fence.check_folder(at)?;
            space::free(at)
        })
        .await
    }

    async fn check_output(&self, dir: &Location) -> Result<()> {
        self.run(dir, |local, dir| {
            local.fence.check_folder(dir)?;
            mount::check_output(dir)
        })
        .await
    }
}
