//! Sizes, pins, and ranged reads held to a pin.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::fence::Fence;
use super::file::{check_regular, open_regular, stat};
use super::handles::Handles;
use super::names::path;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Pin;
use crate::location::Location;
use crate::store::Meta;

/// Looks a file up. A merge that is planned does so for each of its inputs, and reads the file that has the name now: an
/// older one that is still open is closed, since an equal copy (`cp -a`) has the same pin.
pub(super) fn head(handles: &Handles, fence: &Fence, at: &Location) -> Result<Meta> {
    // Opened in order to look it up, not to read it: what is judged is what the fence has seen.
    let open = rustix::fs::open(path(at)?, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io(at, "cannot look up", e))?;
    fence.check_open(at, &open)?;
    let meta = stat(at, &File::from(open))?;
    check_regular(at, &meta)?;
    handles.forget_others(path(at)?, &meta);
    Ok(Meta { size: meta.len(), pin: pin_of(&meta) })
}

/// Size and time of modification. Not the inode: every machine that shares or mirrors the files must see the same pin.
pub(super) fn pin_of(meta: &Metadata) -> Pin {
    let nanoseconds = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Pin::new(format!("file:{}:{nanoseconds}", meta.len()))
}

/// What a read goes through.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// Files that are kept open.
    pub(super) handles: &'a Handles,
    /// Where files may lie.
    pub(super) fence: &'a Fence,
}

pub(super) fn read(
    from: Source<'_>,
    at: &Location,
    offset: u64,
    mut buf: Vec<u8>,
    pin: Option<&Pin>,
) -> Result<Vec<u8>> {
    let Some(pin) = pin else {
        let file = open_regular(from.fence, at)?;
        fill(at, &file, &mut buf, offset)?;
        return Ok(buf);
    };
    pinned(from, at, pin, |file| fill(at, file, &mut buf, offset))?;
    Ok(buf)
}

/// Works on an open file that is the version of a pin, before and after.
pub(super) fn pinned(from: Source<'_>, at: &Location, pin: &Pin, work: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let Source { handles, fence } = from;
    let path = path(at)?;
    let file = match handles.find(path, pin) {
        Some(file) => file,
        None => Arc::new(open_regular(fence, at)?),
    };
    let checked = || {
        check_pin(at, &file, pin)?;
        let done = work(&file);
        // Also after a failed read: a file that was cut short while it was read has changed, and that is the better news.
        check_pin(at, &file, pin)?;
        done
    };
    match checked() {
        Ok(()) => {
            handles.keep(path, pin, file);
            Ok(())
        }
        Err(e) => {
            handles.forget(path);
            Err(e)
        }
    }
}

/// Holds an open file to a pin.
pub(super) fn check_pin(at: &Location, file: &File, pin: &Pin) -> Result<()> {
    let meta = stat(at, file)?;
    if meta.nlink() == 0 {
        // The open file still has the right bytes, but a read on another machine would not find them.
        return Err(Error::new(ErrorKind::Changed, at, format!("was {pin} and has been replaced or removed")));
    }
    let now = pin_of(&meta);
    if now != *pin {
        return Err(Error::new(ErrorKind::Changed, at, format!("was {pin} and is now {now}")));
    }
    Ok(())
}

/// Fills the whole buffer from `offset` on.
pub(super) fn fill(at: &Location, file: &File, buf: &mut [u8], offset: u64) -> Result<()> {
    let wanted = buf.len();
    file.read_exact_at(buf, offset).map_err(|e| match ErrorKind::of_io(&e) {
        ErrorKind::ShortRead => {
            let size = file.metadata().map_or_else(|_| "earlier".to_owned(), |meta| format!("at {}", meta.len()));
            Error::new(ErrorKind::ShortRead, at, format!("ends {size}, {wanted} bytes from {offset} were wanted"))
        }
        _ => Error::io(at, format!("cannot read {wanted} bytes from {offset}"), e),
    })
}
