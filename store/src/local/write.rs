//! Whole files, written beside their target and renamed over it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::fence::Fence;
use super::file::{open_regular, stat};
use super::folder;
use super::names::{TEMPORARY, path};
use super::read::check_pin;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Pin;
use crate::location::Location;
use crate::token::token;

pub(super) fn put(at: &Location, bytes: &[u8]) -> Result<()> {
    let temporary = Temporary::beside(at)?;
    temporary.fill(at, bytes)?;
    temporary.replace(at)
}

pub(super) fn copy(fence: &Fence, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
    let mut source = open_regular(fence, from)?;
    if let Some(pin) = pin {
        check_pin(from, &source, pin)?;
    }
    let size = stat(from, &source)?.len();
    let mut temporary = Temporary::beside(to)?;
    // Between two files this shares blocks or copies within the kernel where the file system can.
    let copied = io::copy(&mut source, &mut temporary.file)
        .map_err(|e| Error::io(to, format!("cannot copy {size} bytes from {from}"), e))?;
    match pin {
        Some(pin) => check_pin(from, &source, pin)?,
        None if copied != size => {
            let message = format!("was {size} bytes long and is now {copied}");
            return Err(Error::new(ErrorKind::Changed, from, message));
        }
        None => {}
    }
    temporary.sync(to)?;
    temporary.replace(to)
}

/// A file that is not visible yet. Removed when dropped, unless it took its place.
pub(super) struct Temporary {
    pub(super) path: PathBuf,
    pub(super) file: File,
    placed: bool,
}

impl Temporary {
    /// A new file in the folder of `at`, which is made if need be: only there renaming is one step.
    pub(super) fn beside(at: &Location) -> Result<Self> {
        let dir = dir_of(at)?;
        for _ in 0..folder::ROUNDS {
            folder::make(dir).map_err(|e| Error::io(at, "cannot make its folder", e))?;
            let path = dir.join(format!("{TEMPORARY}{}", token()));
            match File::create_new(&path) {
                Ok(file) => return Ok(Self { path, file, placed: false }),
                // The name is taken, or the folder was removed as an empty one in between.
                Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
                Err(e) => return Err(Error::io(at, "cannot make a file beside it", e)),
            }
        }
        Err(Error::new(ErrorKind::Transient, at, "its folder is removed again and again"))
    }

    /// Writes all of the content, durably.
    pub(super) fn fill(&self, at: &Location, bytes: &[u8]) -> Result<()> {
        (&self.file).write_all(bytes).map_err(|e| Error::io(at, format!("cannot write {} bytes", bytes.len()), e))?;
        self.sync(at)
    }

    fn sync(&self, at: &Location) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io(at, "cannot sync", e))
    }

    /// Takes the place of `at`, whatever was there, durably.
    pub(super) fn replace(mut self, at: &Location) -> Result<()> {
        fs::rename(&self.path, path(at)?).map_err(|e| Error::io(at, "cannot replace", e))?;
        self.placed = true;
        sync_folder_of(at)
    }

    /// The file was renamed by other means.
    pub(super) fn was_placed(mut self) {
        self.placed = true;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The folder of a location that has a file name.
pub(super) fn dir_of(at: &Location) -> Result<&Path> {
    at.file_name().and(path(at)?.parent()).ok_or_else(|| Error::new(ErrorKind::Permanent, at, "does not name a file"))
}

/// Makes the entry of a location durable.
pub(super) fn sync_folder_of(at: &Location) -> Result<()> {
    folder::sync(dir_of(at)?).map_err(|e| Error::io(at, "cannot sync its folder", e))
}
