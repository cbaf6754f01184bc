//! Uploads: a hidden file at full length, written by part and renamed into place.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::stat;
use super::names::{HIDDEN, UPLOADS, path};
use super::read::{fill, pin_of};
use super::write::{dir_of, sync_folder_of};
use super::{direct, folder, mount, space};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::store::PartSlot;
use crate::token::token;

/// How long completing waits for parts that are still being written, in steps. A part is in flight for seconds, but a
/// stopped process may hold its lock forever: then the caller is told to come again, and nothing is lost.
const PATIENCE: (u32, Duration) = (3000, Duration::from_millis(20));

/// The id of a new upload of `size` bytes: `<token>-<size>`.
fn id(size: u64) -> UploadId {
    UploadId::new(format!("{}-{size}", token()))
}

/// The length that an upload was begun with; `Some(None)` for one that an older version began, whose id does not hold it.
/// Ids come from journals and the wire: one of another form names no upload here.
fn length(upload: &UploadId) -> Option<Option<u64>> {
    let (token, size) = match upload.as_str().split_once('-') {
        Some((token, size)) => (token, Some(size)),
        None => (upload.as_str(), None),
    };
    let hex = token.len() == 16 && token.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match size {
        _ if !hex => None,
        None => Some(None),
        // Only as it was written, so that one file has one name.
        Some(text) => text.parse::<u64>().ok().filter(|size| size.to_string() == text).map(Some),
    }
}

/// The hidden file of an upload, and its length if that is known.
fn hidden(at: &Location, upload: &UploadId) -> Result<(PathBuf, Option<u64>)> {
    let size = length(upload).ok_or_else(|| gone(at, upload))?;
    let name = at.file_name().unwrap_or_default();
    Ok((uploads(at)?.join(format!("{name}.{upload}")), size))
}

pub(super) fn uploads(at: &Location) -> Result<PathBuf> {
    Ok(dir_of(at)?.join(HIDDEN).join(UPLOADS))
}

fn gone(at: &Location, upload: &UploadId) -> Error {
    Error::new(ErrorKind::NoSuchUpload, at, format!("there is no upload {upload} to it"))
}

/// Opens an upload for reading and writing: some network file systems give an exclusive lock only to a writer, and a
/// shared one only to a reader. One that does not have its length any more is as good as gone.
fn open(at: &Location, upload: &UploadId) -> Result<(File, PathBuf)> {
    let (hidden, size) = hidden(at, upload)?;
    let file = match File::options().read(true).write(true).open(&hidden) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(gone(at, upload)),
        Err(e) => return Err(Error::io(at, "cannot open its upload", e)),
    };
    match (size, stat(at, &file)?.len()) {
        (Some(size), now) if now != size => Err(resized(at, upload, size, now)),
        _ => Ok((file, hidden)),
    }
}

fn resized(at: &Location, upload: &UploadId, size: u64, now: u64) -> Error {
    let message = format!("its upload {upload} has {now} bytes, not {size}: something else than shardfuse changed it");
    Error::new(ErrorKind::NoSuchUpload, at, message)
}

/// Whether the path still names the open file.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

/// Uploads to the same path that are there already are dropped: their ids were lost, or they are about to be useless.
pub(super) fn begin(at: &Location, size: u64) -> Result<UploadId> {
    if path(at)?.is_dir() {
        return Err(Error::new(ErrorKind::Permanent, at, "is a folder, not a file"));
    }
    let failed = |e| Error::io(at, "cannot begin an upload", e);
    let dir = uploads(at)?;
    drop_older(&dir, at).map_err(failed)?;
    for _ in 0..folder::ROUNDS {
        folder::make(&dir).map_err(failed)?;
        let upload = id(size);
        let (hidden, _) = hidden(at, &upload)?;
        match File::create_new(&hidden) {
            Ok(file) => match space::reserve(at, &file, size) {
                Ok(()) => return Ok(upload),
                Err(e) => {
                    let _ = fs::remove_file(&hidden);
                    tidy(at);
                    return Err(e);
                }
            },
            // The name is taken, or another upload ended here and tidied up between the two calls.
            Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Err(Error::new(ErrorKind::Transient, at, "the folder of its upload is removed again and again"))
}

fn drop_older(dir: &Path, at: &Location) -> io::Result<()> {
    let found = match fs::read_dir(dir) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in found {
        let entry = entry?;
        let name = entry.file_name();
        let target = name.to_str().and_then(|name| name.rsplit_once('.')).map(|(target, _)| target);
        if target.is_some() && target == at.file_name() {
            tracing::info!(location = %at, upload = ?name, "an older upload is dropped");
            remove_file(&entry.path())?;
        }
    }
    Ok(())
}

pub(super) fn probe(at: &Location, upload: &UploadId) -> Result<bool> {
    match open(at, upload) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NoSuchUpload => Ok(false),
        Err(e) => Err(e),
    }
}

pub(super) fn put_part(at: &Location, upload: &UploadId, part: PartSlot, bytes: &[u8]) -> Result<PartId> {
    let part = Part::open(at, upload, part, bytes.len() as u64)?;
    part.write(bytes, part.start)?;
    part.finish()
}

/// A part that is being written. While it is open, its upload is not completed.
pub(super) struct Part<'a> {
    at: &'a Location,
    file: File,
    number: u32,
    start: u64,
    length: u64,
    /// Whether other machines may have mounted the file system.
    shared: bool,
}

impl<'a> Part<'a> {
    /// Opens an upload in order to write a part of it.
    pub(super) fn open(at: &'a Location, upload: &UploadId, part: PartSlot, length: u64) -> Result<Self> {
        let (file, hidden) = open(at, upload)?;
        // Waits for whoever is completing; then the file has moved and this writer is stale.
        lock(at, file.lock_shared())?;
        if !is_at(&file, &hidden) {
            return Err(gone(at, upload));
        }
        let (PartSlot { number, offset: start }, size) = (part, stat(at, &file)?.len());
        if start.checked_add(length).is_none_or(|end| end > size) {
            let message = format!("part {number} of {length} bytes at {start} does not fit into {size} bytes");
            return Err(Error::new(ErrorKind::Permanent, at, message));
        }
        let shared = mount::is_shared(&file);
        Ok(Self { at, file, number, start, length, shared })
    }

    /// The upload's location.
    pub(super) fn at(&self) -> &Location {
        self.at
    }

    /// The upload's file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The offset of the first byte.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Writes some of the bytes at an offset of the file.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let written = match self.shared {
            true => self.file.write_all_at(bytes, offset),
            false => direct::write_all_at(&self.file, bytes, offset),
        };
        written.map_err(|e| self.failed(e))
    }

    /// All bytes are written.
    pub(super) fn finish(self) -> Result<PartId> {
        if self.shared {
            self.file.sync_data().map_err(|e| self.failed(e))?;
        }
        Ok(part_id(self.start, self.length))
    }

    /// The error of a write.
    pub(super) fn failed(&self, error: impl Into<io::Error>) -> Error {
        let Self { at, number, start, length, .. } = self;
        Error::io(at, format!("cannot write part {number} of {length} bytes at {start}"), error)
    }
}

fn part_id(start: u64, length: u64) -> PartId {
    PartId::new(format!("{start}+{length}"))
}

/// An id names the part's place, so there is one that is right.
pub(super) fn may_be_part(part: PartSlot, length: u64, id: &PartId) -> bool {
    *id == part_id(part.offset, length)
}

pub(super) fn read_part(at: &Location, upload: &UploadId, offset: u64, mut buf: Vec<u8>) -> Result<Vec<u8>> {
    let (file, _) = open(at, upload)?;
    fill(at, &file, &mut buf, offset)?;
    Ok(buf)
}

/// Whether the parts follow one another without a gap from the first byte to the last, as another store would insist.
pub(super) fn check_parts(at: &Location, parts: &[(u32, PartId)], size: u64) -> Result<()> {
    let mut end = 0u64;
    let mut last = None;
    for (number, id) in parts {
        let range = id
            .as_str()
            .split_once('+')
            .and_then(|(start, length)| Some((start.parse::<u64>().ok()?, length.parse::<u64>().ok()?)));
        match range {
            Some((start, length)) if start == end && last < Some(*number) => end = end.saturating_add(length),
            _ => {
                let message = format!("part {number} ({id}) does not follow the {end} bytes before it");
                return Err(Error::new(ErrorKind::InvalidPart, at, message));
            }
        }
        last = Some(*number);
    }
    if end != size {
        return Err(Error::new(ErrorKind::InvalidPart, at, format!("the parts have {end} bytes of {size}")));
    }
    Ok(())
}

pub(super) fn complete(at: &Location, upload: &UploadId, size: u64) -> Result<Option<Pin>> {
    let (file, hidden) = match open(at, upload) {
        Ok(open) => open,
        Err(e) if e.kind() == ErrorKind::NoSuchUpload => return completed_earlier(at, size, e),
        Err(e) => return Err(e),
    };
    lock_alone(at, &file)?;
    if !is_at(&file, &hidden) {
        return completed_earlier(at, size, gone(at, upload));
    }
    let length = stat(at, &file)?.len();
    if length != size {
        return Err(resized(at, upload, size, length));
    }
    if let Err(e) = file.sync_all() {
        // The kernel reports a failed write-back once: a second sync would succeed without the bytes.
        let _ = fs::remove_file(&hidden);
        return Err(Error::io(at, "cannot sync its upload, which is dropped", e));
    }
    fs::rename(&hidden, path(at)?).map_err(|e| Error::io(at, "cannot move the finished upload into place", e))?;
    sync_folder_of(at)?;
    tidy(at);
    Ok(Some(pin_of(&stat(at, &file)?)))
}

/// The upload is gone: if what is at the path has the length, then because it was completed. That may have been in a
/// process that died before the last sync, so this syncs too.
fn completed_earlier(at: &Location, size: u64, gone: Error) -> Result<Option<Pin>> {
    match File::open(path(at)?) {
        Ok(file) if file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == size) => {
            file.sync_all().map_err(|e| Error::io(at, "cannot sync", e))?;
            sync_folder_of(at)?;
            Ok(None)
        }
        _ => Err(gone),
    }
}

pub(super) fn abort(at: &Location, upload: &UploadId) -> Result<()> {
    match hidden(at, upload) {
        Ok((hidden, _)) => remove_file(&hidden).map_err(|e| Error::io(at, "cannot drop its upload", e))?,
        Err(e) if e.kind() == ErrorKind::NoSuchUpload => {}
        Err(e) => return Err(e),
    }
    tidy(at);
    Ok(())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Leaves no empty hidden folders behind. Whoever needs them makes them again.
fn tidy(at: &Location) {
    if let Ok(dir) = uploads(at) {
        let _ = folder::remove_if_empty(&dir);
        let _ = dir.parent().map(folder::remove_if_empty);
    }
}

fn lock_alone(at: &Location, file: &File) -> Result<()> {
    let (steps, pause) = PATIENCE;
    for _ in 0..steps {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(pause),
            Err(TryLockError::Error(e)) => return lock(at, Err(e)),
        }
    }
    Err(Error::new(ErrorKind::Transient, at, "a process still holds the lock of a part of its upload"))
}

/// Locks keep late writers out of a visible file. Where there are none, their bytes are equal, see the module's
/// documentation.
fn lock(at: &Location, result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if ErrorKind::of_io(&error) == ErrorKind::Unsupported => {
            tracing::debug!(location = %at, %error, "the file system has no locks");
            Ok(())
        }
        result => result.map_err(|e| Error::io(at, "cannot lock its upload", e)),
    }
}
