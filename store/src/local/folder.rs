//! Folders that survive a crash.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::io::Errno;

/// Makes a folder and those above it, each durable in its parent.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().ok_or(io::ErrorKind::NotFound)?;
    // More than one round only if somebody removes the emptied parent between the two calls.
    for _ in 0..ROUNDS {
        match fs::create_dir(dir) {
            Ok(()) => return sync(parent),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => make(parent)?,
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// How often to make a folder that others keep removing.
pub(super) const ROUNDS: usize = 16;

/// Makes the entries of a folder durable.
pub(super) fn sync(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        // Some network file systems do not sync folders: their servers keep entries durable by themselves.
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::INVAL | Errno::NOTSUP | Errno::BADF)) => Ok(()),
        result => result,
    }
}

/// The nearest existing folder or file on the way to `path`, the path itself included.
pub(super) fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"))
}

/// Removes the empty folders below a folder, as far as that can be done.
pub(super) fn remove_empty_below(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty_below(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Removes a folder if it is empty, and says nothing if it is not.
pub(super) fn remove_if_empty(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(e) => match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(e),
        },
        Ok(()) => Ok(()),
    }
}
