//! Regular files, opened and looked at.

use std::fs::{File, Metadata};
use std::os::unix::fs::OpenOptionsExt;

use super::fence::Fence;
use super::names::path;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// Opens a file that must be a regular one, within the fence.
pub(super) fn open_regular(fence: &Fence, at: &Location) -> Result<File> {
    // Without NONBLOCK, opening a pipe waits for a writer that never comes.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path(at)?)
        .map_err(|e| Error::io(at, "cannot open", e))?;
    fence.check_open(at, &file)?;
    check_regular(at, &stat(at, &file)?)?;
    Ok(file)
}

/// Refuses what is not a regular file.
pub(super) fn check_regular(at: &Location, meta: &Metadata) -> Result<()> {
    match meta.is_file() {
        true => Ok(()),
        false if meta.is_dir() => Err(Error::new(ErrorKind::Permanent, at, "is a folder, not a file")),
        false => Err(Error::new(ErrorKind::Permanent, at, "is not a regular file")),
    }
}

/// Size, times and kind of an open file.
pub(super) fn stat(at: &Location, file: &File) -> Result<Metadata> {
    file.metadata().map_err(|e| Error::io(at, "cannot read the size and time of", e))
}
