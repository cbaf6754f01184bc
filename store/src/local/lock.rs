//! The lock of a folder. It is on the folder itself, so nothing is left behind, and ends with the process.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::names::path;
use super::{folder, mount};
use crate::error::{Error, Result};
use crate::location::Location;
use crate::store::{Hold, Lock};

/// How often to begin anew where somebody exchanges the folder.
const ROUNDS: usize = 16;

/// Locks a folder, which is made if it is not there. File systems that other machines may have mounted are not locked: what a
/// lock there means differs, and some keep that of a machine that is gone.
pub(super) fn lock(dir: &Location) -> Result<Lock> {
    let place = path(dir)?;
    for _ in 0..ROUNDS {
        let made = !place.exists();
        folder::make(place).map_err(|e| Error::io(dir, "cannot make the folder", e))?;
        let file = File::open(place).map_err(|e| Error::io(dir, "cannot open the folder", e))?;
        if mount::is_shared(&file) {
            return Ok(Lock::Unsupported);
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_at(&file, place) => {
                let made = made.then(|| place.to_owned());
                return Ok(Lock::Held(Hold::new(Held { _file: file, made })));
            }
            // The folder was removed before it was locked.
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Lock::Taken),
            Err(_) => return Ok(Lock::Unsupported),
        }
    }
    Ok(Lock::Unsupported)
}

fn is_at(file: &File, place: &std::path::Path) -> bool {
    let of = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), fs::metadata(place)), (Ok(one), Ok(other)) if of(&one) == of(&other))
}

/// A folder that is locked until this is dropped. One that was made for it goes, if nothing is in it.
struct Held {
    _file: File,
    made: Option<std::path::PathBuf>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(made) = &self.made {
            let _ = folder::remove_if_empty(made);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_once_and_free_again_when_the_lock_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let at = Location::at_path(&dir.path().join("out")).unwrap();
        let first = lock(&at).unwrap();
        assert!(matches!(first, Lock::Held(_)));
        assert!(matches!(lock(&at).unwrap(), Lock::Taken));
        drop(first);
        assert!(!dir.path().join("out").exists(), "a folder that was made for the lock goes with it");
        assert!(matches!(lock(&at).unwrap(), Lock::Held(_)));
    }

    #[test]
    fn a_folder_that_was_there_or_holds_something_stays() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("out");
        let at = Location::at_path(&place).unwrap();
        let held = lock(&at).unwrap();
        fs::write(place.join("config.json"), "{}").unwrap();
        drop(held);
        assert!(place.join("config.json").exists());
        fs::remove_file(place.join("config.json")).unwrap();
        drop(lock(&at).unwrap());
        assert!(place.exists(), "it was there before");
    }
}
