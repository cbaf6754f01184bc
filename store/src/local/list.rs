//! What lies below a folder.
//!
//! A link to a file is listed as the file: a hub cache consists of such links. A link to a folder is entered, after all
//! folders that lie in the tree itself; a folder that was listed already is not listed a second time, so links that lead
//! around in a circle end. What cannot be read is listed with the reason.
//!
//! Of what lies outside of the fence nothing is told: a link to a folder there is not entered, and one to a file is listed
//! as a file of no bytes. Reading that one is refused with both places.

use std::collections::HashMap;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::fence::Fence;
use super::names::{ASIDE, HIDDEN, TEMPORARY, UPLOADS, path};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::store::{Entry, EntryKind};

/// How many links to folders may follow one another on a path.
const MAX_LINKS: usize = 16;
/// The most entries of one listing. A link to the root of a disk would not end before memory does.
pub(super) const MAX_ENTRIES: usize = 1_000_000;

/// Lists a folder. One that does not exist is empty.
pub(super) fn list(fence: &Fence, dir: &Location) -> Result<Vec<Entry>> {
    let mut walk = Walk { fence, dir, entries: Vec::new(), seen: HashMap::new(), links: Vec::new() };
    walk.tree(Folder { path: path(dir)?.to_owned(), name: String::new(), links: 0 })?;
    while !walk.links.is_empty() {
        let mut level = std::mem::take(&mut walk.links);
        level.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for link in level {
            walk.tree(link)?;
        }
    }
    walk.entries.sort_unstable();
    Ok(walk.entries)
}

/// A folder that is to be read.
struct Folder {
    path: PathBuf,
    /// Its name below the listed folder; empty for that folder itself.
    name: String,
    /// Links to folders on the way to it.
    links: usize,
}

struct Walk<'a> {
    fence: &'a Fence,
    dir: &'a Location,
    entries: Vec<Entry>,
    /// The name of every folder that was read, by device and inode.
    seen: HashMap<(u64, u64), String>,
    /// Folders behind links.
    links: Vec<Folder>,
}

impl Walk<'_> {
    /// Reads a folder and those that lie in it.
    fn tree(&mut self, root: Folder) -> Result<()> {
        let mut waiting = vec![root];
        while let Some(folder) = waiting.pop() {
            if !self.is_new(&folder)? {
                continue;
            }
            let found = match fs::read_dir(&folder.path) {
                Ok(found) => found,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(self.reading(&folder, e)),
            };
            for entry in found {
                let entry = entry.map_err(|e| self.reading(&folder, e))?;
                waiting.extend(self.entry(&folder, &entry)?);
            }
            if self.entries.len() > MAX_ENTRIES {
                let message =
                    format!("holds more than {MAX_ENTRIES} files, the last of them in {}", folder.path.display());
                return Err(Error::new(ErrorKind::Permanent, self.dir, message));
            }
        }
        Ok(())
    }

    /// Notes a folder, and tells whether it was not read before.
    fn is_new(&mut self, folder: &Folder) -> Result<bool> {
        let meta = match fs::metadata(&folder.path) {
            Ok(meta) if meta.is_dir() => meta,
            Ok(_) if folder.name.is_empty() => {
                return Err(Error::new(ErrorKind::Permanent, self.dir, "is a file, not a folder"));
            }
            // Removed or replaced while listing.
            Ok(_) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::NotADirectory && folder.name.is_empty() => {
                return Err(Error::new(ErrorKind::Permanent, self.dir, "is a file, not a folder"));
            }
            Err(e) => return Err(self.reading(folder, e)),
        };
        let place = (meta.dev(), meta.ino());
        // Folders of the tree itself form no circle, and some file systems number their folders badly.
        if folder.links > 0
            && let Some(other) = self.seen.get(&place)
        {
            let other = if other.is_empty() { ".".to_owned() } else { other.clone() };
            self.push(folder.name.clone(), EntryKind::Alias(other));
            return Ok(false);
        }
        self.seen.insert(place, folder.name.clone());
        Ok(true)
    }

    /// Lists an entry; a folder is returned, and one behind a link is kept for later.
    fn entry(&mut self, folder: &Folder, entry: &DirEntry) -> Result<Option<Folder>> {
        let file_name = entry.file_name();
        let name = file_name.to_string_lossy();
        let uploads = name == UPLOADS && folder.path.file_name().is_some_and(|parent| parent == HIDDEN);
        if uploads || name.starts_with(TEMPORARY) || name.starts_with(ASIDE) {
            return Ok(None);
        }
        let full = if folder.name.is_empty() { name.clone().into_owned() } else { format!("{}/{name}", folder.name) };
        if file_name.to_str().is_none() {
            self.push(full, EntryKind::Unreadable("has a name that is not UTF-8".to_owned()));
            return Ok(None);
        }
        let kind = entry.file_type().map_err(|e| self.reading(folder, e))?;
        let below = |links| Folder { path: entry.path(), name: full.clone(), links };
        if kind.is_dir() {
            return Ok(Some(below(folder.links)));
        }
        let outside = kind.is_symlink() && self.leads_out(&entry.path())?;
        match fs::metadata(entry.path()) {
            Ok(meta) if meta.is_dir() && outside => {
                let why = "is a link to a folder outside of those that are allowed here, which is not followed";
                self.push(full, EntryKind::Unreadable(why.to_owned()));
            }
            Ok(_) if outside => self.push(full, EntryKind::File),
            Ok(meta) if meta.is_dir() && folder.links < MAX_LINKS => self.links.push(below(folder.links + 1)),
            Ok(meta) if meta.is_dir() => {
                let why = format!("is a link to a folder behind {MAX_LINKS} other links, which is not followed");
                self.push(full, EntryKind::Unreadable(why));
            }
            Ok(meta) => self.file(full, &meta),
            Err(e) if kind.is_symlink() => {
                // A link that was removed while listing is no entry any more.
                if let Ok(target) = fs::read_link(entry.path()) {
                    self.push(full, EntryKind::Unreadable(broken(&target.display().to_string(), &e)));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(self.reading(folder, e)),
        }
        Ok(None)
    }

    /// Whether a link leads out of the fence.
    fn leads_out(&self, link: &Path) -> Result<bool> {
        match self.fence.check_path(self.dir, link) {
            Ok(()) => Ok(false),
            Err(e) if e.kind() == ErrorKind::NotAllowed => Ok(true),
            // It was removed while listing.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn file(&mut self, name: String, meta: &Metadata) {
        match meta.is_file() {
            true => self.entries.push(Entry::file(name, meta.len())),
            false => self.push(name, EntryKind::Unreadable("is not a regular file".to_owned())),
        }
    }

    fn push(&mut self, name: String, kind: EntryKind) {
        self.entries.push(Entry { name, size: 0, kind });
    }

    fn reading(&self, folder: &Folder, e: io::Error) -> Error {
        Error::io(self.dir, format!("cannot list {}", folder.path.display()), e)
    }
}

/// Why a link leads to nothing.
fn broken(target: &str, e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::NotFound => format!("is a link to {target}, which is not there"),
        _ if Errno::from_io_error(e) == Some(Errno::LOOP) => format!("is a link to {target} that leads in a circle"),
        _ => format!("is a link to {target}, which cannot be looked up: {e}"),
    }
}
