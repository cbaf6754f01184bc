//! Files and folders removed, durably: what is published must not stand beside what was removed before it.

use std::fs;
use std::io;

use super::names::{HIDDEN, TEMPORARY, path};
use super::write::{dir_of, sync_folder_of};
use super::{aside, folder};
use crate::error::{Error, Result};
use crate::location::Location;

pub(super) fn delete(at: &Location) -> Result<()> {
    dir_of(at)?;
    match fs::remove_file(path(at)?) {
        Ok(()) => sync_folder_of(at),
        Err(e) if gone(&e) => Ok(()),
        Err(e) => Err(Error::io(at, "cannot remove", e)),
    }
}

/// Symbolic links are removed, not followed. The root, and a path that ends in `..`, are refused.
pub(super) fn delete_tree(dir: &Location) -> Result<()> {
    dir_of(dir)?;
    // Whoever still writes there may add an entry between emptying the folder and removing it.
    for _ in 0..folder::ROUNDS {
        match fs::remove_dir_all(path(dir)?) {
            Ok(()) => return sync_folder_of(dir),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(e) => return Err(Error::io(dir, "cannot remove the folder", e)),
        }
    }
    Err(Error::io(dir, "is written to while it is removed", rustix::io::Errno::BUSY))
}

pub(super) fn remove_empty_dir(dir: &Location) -> Result<()> {
    dir_of(dir)?;
    let path = path(dir)?;
    if path.file_name().is_some_and(|name| name == HIDDEN) {
        // Nobody but this store has folders there, which other stores do not have.
        folder::remove_empty_below(path);
    }
    folder::remove_if_empty(path).map_err(|e| Error::io(dir, "cannot remove the folder", e))
}

pub(super) fn sweep(dir: &Location) -> Result<()> {
    let failed = |e| Error::io(dir, "cannot remove what interrupted writes left", e);
    let found = match fs::read_dir(path(dir)?) {
        Ok(found) => found,
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    for entry in found {
        let entry = entry.map_err(failed)?;
        if aside::restore(&entry.path()).map_err(failed)? {
            tracing::info!(path = %entry.path().display(), "an interrupted removal is undone");
        }
        if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
            match fs::remove_file(entry.path()) {
                Err(e) if !gone(&e) => return Err(failed(e)),
                _ => tracing::debug!(path = %entry.path().display(), "removed what an interrupted write left"),
            }
        }
    }
    Ok(())
}

fn gone(error: &io::Error) -> bool {
    // NotADirectory: something on the way is a file, so there is nothing at the path either.
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
