//! What lies below a folder.

use std::fs::{self, FileType};
use std::io;
use std::path::PathBuf;

use super::{ASIDE, HIDDEN, TEMPORARY, UPLOADS, path};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::store::Entry;

/// Symbolic links to files are listed as the files (a hub cache consists of them). Those to folders are not entered,
/// but for `dir` itself: they may lead out of the tree or around in a circle.
pub(super) fn list(dir: &Location) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut waiting: Vec<(PathBuf, String)> = vec![(path(dir)?.to_owned(), String::new())];
    while let Some((folder, prefix)) = waiting.pop() {
        let reading = |e| Error::io(dir, format!("cannot list {}", folder.display()), e);
        let found = match fs::read_dir(&folder) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) if e.kind() == io::ErrorKind::NotADirectory && prefix.is_empty() => {
                return Err(Error::new(ErrorKind::Permanent, dir, "is a file, not a folder"));
            }
            Err(e) => return Err(reading(e)),
        };
        for entry in found {
            let entry = entry.map_err(reading)?;
            let Ok(name) = entry.file_name().into_string() else {
                tracing::warn!(path = %entry.path().display(), "a name that is not UTF-8 is left out of the listing");
                continue;
            };
            let uploads = name == UPLOADS && folder.file_name().is_some_and(|parent| parent == HIDDEN);
            if uploads || name.starts_with(TEMPORARY) || name.starts_with(ASIDE) {
                continue;
            }
            let name = format!("{prefix}{name}");
            match entry.file_type().map_err(reading)? {
                kind if kind.is_dir() => waiting.push((entry.path(), format!("{name}/"))),
                kind => entries.extend(size(&entry, kind).map(|size| Entry { name, size })),
            }
        }
    }
    entries.sort_unstable();
    Ok(entries)
}

/// The length of a regular file, through links. `None` for all else, and for what was removed while listing.
fn size(entry: &fs::DirEntry, kind: FileType) -> Option<u64> {
    let meta = if kind.is_symlink() { fs::metadata(entry.path()) } else { entry.metadata() };
    let meta = meta.ok().filter(fs::Metadata::is_file);
    if meta.is_none() {
        tracing::debug!(path = %entry.path().display(), "not a regular file, left out of the listing");
    }
    meta.map(|meta| meta.len())
}
