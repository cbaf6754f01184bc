//! Create-if-absent: whoever comes first, and nobody sees half of it.
//!
//! The content is written and synced under a hidden name; then one system call gives it its name if that is free. A
//! hard link does this on every file system that has them, NFS included; a rename that replaces nothing does it on
//! most others (FAT, exFAT, some FUSE). Where there is neither, an empty file made with `O_EXCL` decides who wins, and
//! the content is renamed over it at once: there, and only there, a reader may see an empty object for a moment, and a
//! crash within that moment leaves it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::names::path;
use super::write::{Temporary, sync_folder_of};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

pub(super) fn create(at: &Location, bytes: &[u8]) -> Result<()> {
    create_by(at, bytes, &[link, rename_no_replace, claim])
}

/// One way of naming a file if the name is free: whether the hidden name is gone by it.
type Way = fn(&Temporary, &Path) -> io::Result<bool>;

fn create_by(at: &Location, bytes: &[u8], ways: &[Way]) -> Result<()> {
    // Saves writing the content for nothing in the common lost race; the ways below decide.
    if path(at)?.symlink_metadata().is_ok() {
        return Err(Error::new(ErrorKind::AlreadyExists, at, "exists already"));
    }
    let temporary = Temporary::beside(at)?;
    temporary.fill(at, bytes)?;
    for way in ways {
        match way(&temporary, path(at)?) {
            Ok(moved) => {
                if moved {
                    temporary.was_placed();
                }
                return sync_folder_of(at);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::new(ErrorKind::AlreadyExists, at, "exists already"));
            }
            Err(e) if cannot(&e) => {}
            Err(e) => return Err(Error::io(at, "cannot create", e)),
        }
    }
    Err(Error::new(ErrorKind::Unsupported, at, "its file system has no way to create a file only if there is none"))
}

/// Whether the file system lacks the operation, rather than failing at it.
fn cannot(error: &io::Error) -> bool {
    // PERM is what link returns where there are no hard links; INVAL what renameat2 returns for an unknown flag.
    let unknown = [Errno::NOTSUP, Errno::NOSYS, Errno::PERM, Errno::INVAL, Errno::MLINK];
    Errno::from_io_error(error).is_some_and(|errno| unknown.contains(&errno))
}

fn link(temporary: &Temporary, target: &Path) -> io::Result<bool> {
    match fs::hard_link(&temporary.path, target) {
        // A network file system may repeat a request whose reply was lost, and then find its own link there.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && temporary.file.metadata()?.nlink() > 1 => Ok(false),
        result => result.map(|()| false),
    }
}

fn rename_no_replace(temporary: &Temporary, target: &Path) -> io::Result<bool> {
    renameat_with(CWD, &temporary.path, CWD, target, RenameFlags::NOREPLACE)?;
    Ok(true)
}

fn claim(temporary: &Temporary, target: &Path) -> io::Result<bool> {
    File::create_new(target)?;
    fs::rename(&temporary.path, target)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way by itself: one of many wins, and what is there is whole.
    #[test]
    fn each_way_lets_one_win() {
        for way in [link as Way, rename_no_replace, claim] {
            let dir = tempfile::tempdir().unwrap();
            let at = Location::at_path(&dir.path().join("epoch")).unwrap();
            let won: Vec<u8> = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..16u8)
                    .map(|i| {
                        (
                            i,
                            scope.spawn({
                                let at = &at;
                                move || create_by(at, &[i; 1000], &[way])
                            }),
                        )
                    })
                    .collect();
                racers
                    .into_iter()
                    .filter_map(|(i, racer)| match racer.join().unwrap() {
                        Ok(()) => Some(i),
                        Err(e) => {
                            assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e}");
                            None
                        }
                    })
                    .collect()
            });
            assert_eq!(won.len(), 1);
            assert_eq!(fs::read(path(&at).unwrap()).unwrap(), [won[0]; 1000]);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        }
    }

    #[test]
    fn a_missing_way_falls_through_to_the_next() {
        fn none(_: &Temporary, _: &Path) -> io::Result<bool> {
            Err(Errno::PERM.into())
        }
        let dir = tempfile::tempdir().unwrap();
        let at = Location::at_path(&dir.path().join("x")).unwrap();
        assert_eq!(create_by(&at, b"1", &[none]).unwrap_err().kind(), ErrorKind::Unsupported);
        create_by(&at, b"1", &[none, claim]).unwrap();
        assert_eq!(fs::read(path(&at).unwrap()).unwrap(), b"1");
    }
}
