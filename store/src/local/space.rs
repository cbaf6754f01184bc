//! Room on the disk: how much there is, and taking it before the work.

use std::fs::File;

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::{Errno, retry_on_intr};

use super::folder;
use super::names::path;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// Free bytes for an unprivileged user, where `at` is or would be. `None` where the file system counts no blocks at all,
/// as some that lie in memory or behind a network do: that is not a full disk.
pub(super) fn free(at: &Location) -> Result<Option<u64>> {
    let stats =
        statvfs(folder::nearest_existing(path(at)?)).map_err(|e| Error::io(at, "cannot ask for free space", e))?;
    Ok((stats.f_blocks > 0).then(|| stats.f_bavail.saturating_mul(stats.f_frsize)))
}

/// Gives a new file its full length and its blocks, so that the writes that follow neither fail for want of space nor
/// have to find it under way.
pub(super) fn reserve(at: &Location, file: &File, size: u64) -> Result<()> {
    if size == 0 {
        return Ok(());
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, size)) {
        Ok(()) => Ok(()),
        // Not every file system can reserve (NFS before 4.2, some FUSE); then at least what is free must be enough.
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => match free(at)? {
            Some(free) if free < size => {
                let message = format!("cannot reserve {size} bytes, {free} are free");
                Err(Error::new(ErrorKind::NoSpace, at, message))
            }
            _ => file.set_len(size).map_err(|e| Error::io(at, format!("cannot set a length of {size} bytes"), e)),
        },
        Err(e) => {
            // Blocks that were found before the disk was full are given back, or the message would not count them.
            let _ = file.set_len(0);
            let free = match free(at) {
                Ok(Some(free)) if e == Errno::NOSPC => format!(", {free} are free"),
                _ => String::new(),
            };
            Err(Error::io(at, format!("cannot reserve {size} bytes{free}"), e))
        }
    }
}
