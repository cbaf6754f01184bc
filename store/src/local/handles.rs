//! Open files kept for the next ranged read of the same version.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::id::Pin;

/// As many as a merge reads at a time from one worker, with room; far below any limit on open files.
const LIMIT: usize = 64;

/// Open files by path and version, the least recently used one closed first.
///
/// A search through so few is cheaper than the read that follows it by orders of magnitude.
#[derive(Debug, Default)]
pub(super) struct Handles(Mutex<VecDeque<Handle>>);

#[derive(Debug)]
struct Handle {
    path: PathBuf,
    pin: Pin,
    file: Arc<File>,
}

impl Handles {
    /// Takes the handle out; [`Handles::keep`] brings it back as the most recently used one.
    pub(super) fn find(&self, path: &Path, pin: &Pin) -> Option<Arc<File>> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().find(|h| h.path == path && h.pin == *pin).map(|h| h.file.clone())
    }

    /// Remembers a handle, as the most recently used one.
    pub(super) fn keep(&self, path: &Path, pin: &Pin, file: Arc<File>) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|h| h.path != path || h.pin != *pin);
        open.push_back(Handle { path: path.to_owned(), pin: pin.clone(), file });
        while open.len() > LIMIT {
            open.pop_front();
        }
    }

    /// Closes the handles of a path that are not of this file.
    pub(super) fn forget_others(&self, path: &Path, file: &Metadata) {
        let is_it = |h: &Handle| h.file.metadata().is_ok_and(|m| (m.dev(), m.ino()) == (file.dev(), file.ino()));
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|h| h.path != path || is_it(h));
    }

    /// Closes the handles of a path and of everything below it: a deleted file keeps its space while it is open, and
    /// on NFS also its folder.
    pub(super) fn forget(&self, path: &Path) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|h| !h.path.starts_with(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_is_closed() {
        let (handles, file) = (Handles::default(), Arc::new(File::open("/dev/null").unwrap()));
        let path = |i: usize| PathBuf::from(format!("/f/{i}"));
        let pin = Pin::new("p");
        for i in 0..LIMIT {
            handles.keep(&path(i), &pin, file.clone());
        }
        let first = handles.find(&path(0), &pin).unwrap();
        handles.keep(&path(0), &pin, first);
        handles.keep(&path(LIMIT), &pin, file.clone());
        assert!(handles.find(&path(0), &pin).is_some());
        assert!(handles.find(&path(1), &pin).is_none());
        assert!(handles.find(&path(0), &Pin::new("q")).is_none());
        handles.forget(Path::new("/f"));
        assert_eq!(Arc::strong_count(&file), 1);
    }
}
