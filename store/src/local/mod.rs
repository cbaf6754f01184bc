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
//! **Crash.** Small files are synced, renamed, and their folder is synced. Of an upload only completing syncs, once;
//! parts put before a crash of the machine may be lost, which [`Store::boot_id`] tells. On file systems that several
//! machines share each part is synced before it counts. Interrupted small writes leave files named
//! `.shardfuse-tmp-*`, which no listing shows and [`Store::sweep`] removes. An interrupted [`Store::delete_if`] leaves
//! `.shardfuse-aside-<token>-<name>`, which [`Store::sweep`] gives its name back.
//!
//! **Retry.** Nothing here retries but interrupted system calls.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::store::{Entry, Meta, PartSlot, Store};
use crate::token::token;

mod aside;
mod create;
mod direct;
mod folder;
mod handles;
mod list;
mod mount;
mod read;
mod remove;
mod space;
#[cfg(test)]
mod tests;
mod upload;
mod write;

use handles::Handles;

/// The name of the folder that holds what is in progress beside its target.
const HIDDEN: &str = ".shardfuse";
/// The folder of the uploads in [`HIDDEN`].
const UPLOADS: &str = "upload";
/// How the names of half-written small files begin.
const TEMPORARY: &str = ".shardfuse-tmp-";

/// How the names begin that files have while [`Store::delete_if`] looks at them.
const ASIDE: &str = ".shardfuse-aside-";

/// Files on a local disk or a shared POSIX file system. The module's documentation says what holds.
///
/// System calls run on tokio's blocking threads, so every method must be called within a tokio runtime. How many run
/// at a time is the caller's choice.
#[derive(Debug, Default)]
pub struct Local {
    handles: Arc<Handles>,
}

impl Local {
    /// A store for all `file://` locations.
    pub fn new() -> Self {
        Self::default()
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

/// The path of a location of this store.
fn path(at: &Location) -> Result<&Path> {
    at.local_path().ok_or_else(|| Error::new(ErrorKind::Unsupported, at, "is not a local file"))
}

/// Opens a file that must be a regular one.
fn open_regular(at: &Location) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    // Without NONBLOCK, opening a pipe waits for a writer that never comes.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path(at)?)
        .map_err(|e| Error::io(at, "cannot open", e))?;
    check_regular(at, &stat(at, &file)?)?;
    Ok(file)
}

fn check_regular(at: &Location, meta: &std::fs::Metadata) -> Result<()> {
    match meta.is_file() {
        true => Ok(()),
        false if meta.is_dir() => Err(Error::new(ErrorKind::Permanent, at, "is a folder, not a file")),
        false => Err(Error::new(ErrorKind::Permanent, at, "is not a regular file")),
    }
}

fn stat(at: &Location, file: &File) -> Result<std::fs::Metadata> {
    file.metadata().map_err(|e| Error::io(at, "cannot read the size and time of", e))
}

#[async_trait]
impl Store for Local {
    async fn head(&self, at: &Location) -> Result<Meta> {
        let at = at.clone();
        blocking(move || read::head(&at)).await
    }

    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        let (at, pin, handles) = (at.clone(), pin.cloned(), self.handles.clone());
        blocking(move || read::read(&handles, &at, offset, buf, pin.as_ref())).await
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        let dir = dir.clone();
        blocking(move || list::list(&dir)).await
    }

    async fn put(&self, at: &Location, bytes: Bytes) -> Result<()> {
        let (at, handles) = (at.clone(), self.handles.clone());
        blocking(move || {
            write::put(&at, &bytes)?;
            handles.forget(path(&at)?);
            Ok(())
        })
        .await
    }

    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()> {
        let at = at.clone();
        blocking(move || create::create(&at, &bytes)).await
    }

    async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
        let (from, to, pin, handles) = (from.clone(), to.clone(), pin.cloned(), self.handles.clone());
        blocking(move || {
            write::copy(&from, &to, pin.as_ref())?;
            handles.forget(path(&to)?);
            Ok(())
        })
        .await
    }

    async fn delete(&self, at: &Location) -> Result<()> {
        let (at, handles) = (at.clone(), self.handles.clone());
        blocking(move || {
            handles.forget(path(&at)?);
            remove::delete(&at)
        })
        .await
    }

    async fn delete_if(&self, at: &Location, pin: &Pin) -> Result<()> {
        let (at, pin, handles) = (at.clone(), pin.clone(), self.handles.clone());
        blocking(move || {
            handles.forget(path(&at)?);
            aside::delete_if(&at, &pin)
        })
        .await
    }

    async fn delete_tree(&self, dir: &Location) -> Result<()> {
        let (dir, handles) = (dir.clone(), self.handles.clone());
        blocking(move || {
            handles.forget(path(&dir)?);
            remove::delete_tree(&dir)
        })
        .await
    }

    async fn remove_empty_dir(&self, dir: &Location) -> Result<()> {
        let dir = dir.clone();
        blocking(move || remove::remove_empty_dir(&dir)).await
    }

    async fn sweep(&self, dir: &Location) -> Result<()> {
        let dir = dir.clone();
        blocking(move || remove::sweep(&dir)).await
    }

    async fn begin(&self, at: &Location, size: u64) -> Result<UploadId> {
        let at = at.clone();
        blocking(move || upload::begin(&at, size)).await
    }

    async fn probe(&self, at: &Location, upload: &UploadId) -> Result<bool> {
        let (at, upload) = (at.clone(), upload.clone());
        blocking(move || upload::probe(&at, &upload)).await
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        let (at, upload) = (at.clone(), upload.clone());
        blocking(move || upload::put_part(&at, &upload, part, &bytes)).await
    }

    async fn read_part(&self, at: &Location, upload: &UploadId, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>> {
        let (at, upload) = (at.clone(), upload.clone());
        blocking(move || upload::read_part(&at, &upload, offset, buf)).await
    }

    fn may_be_part(&self, part: PartSlot, length: u64, id: &PartId) -> bool {
        upload::may_be_part(part, length, id)
    }

    async fn complete(
        &self,
        at: &Location,
        upload: &UploadId,
        parts: &[(u32, PartId)],
        size: u64,
    ) -> Result<Option<Pin>> {
        let (at, upload, handles) = (at.clone(), upload.clone(), self.handles.clone());
        upload::check_parts(&at, parts, size)?;
        blocking(move || {
            let made = upload::complete(&at, &upload, size)?;
            handles.forget(path(&at)?);
            Ok(made)
        })
        .await
    }

    async fn abort(&self, at: &Location, upload: &UploadId) -> Result<()> {
        let (at, upload) = (at.clone(), upload.clone());
        blocking(move || upload::abort(&at, &upload)).await
    }

    async fn boot_id(&self, at: &Location) -> Result<Option<String>> {
        let at = at.clone();
        blocking(move || mount::boot_id(&at)).await
    }

    async fn space(&self, at: &Location) -> Result<Option<u64>> {
        let at = at.clone();
        blocking(move || space::free(&at)).await
    }

    async fn check_output(&self, dir: &Location) -> Result<()> {
        let dir = dir.clone();
        blocking(move || mount::check_output(&dir)).await
    }
}
