//! Removing a file only if it is the right one: it is renamed aside first, and looked at there.
//!
//! There is no system call that removes a name if it leads to a given file. A process that is stopped between its look at
//! the file and the removal of the name would remove whatever has that name by then. So the name is moved, in one step, to
//! one that nobody else uses; a file that is not the expected one gets its name back.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::fence::Fence;
use super::file::open_regular;
use super::names::{ASIDE, path};
use super::read::check_pin;
use super::write::{dir_of, sync_folder_of};
use crate::error::{Error, ErrorKind, Result};
use crate::id::Pin;
use crate::location::Location;
use crate::token::token;

pub(super) fn delete_if(fence: &Fence, at: &Location, pin: &Pin) -> Result<()> {
    let file = match open_regular(fence, at) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    check_pin(at, &file, pin)?;
    remove_this(at, &file)
}

/// Removes the name if it leads to the open file.
fn remove_this(at: &Location, file: &File) -> Result<()> {
    let name = at.file_name().unwrap_or_default();
    let aside = dir_of(at)?.join(format!("{ASIDE}{}-{name}", token()));
    match fs::rename(path(at)?, &aside) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(at, "cannot set it aside", e)),
    }
    if !is_at(file, &aside) {
        give_back(&aside, path(at)?).map_err(|e| Error::io(at, format!("cannot give it back from {aside:?}"), e))?;
        return Err(Error::new(ErrorKind::Changed, at, "was replaced meanwhile, and stays"));
    }
    match fs::remove_file(&aside) {
        Ok(()) => sync_folder_of(at),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Error::new(ErrorKind::Changed, at, "got its name back meanwhile, by another process that tidied up"))
        }
        Err(e) => Err(Error::io(at, "cannot remove it", e)),
    }
}

/// Whether a path names the open file.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((file.metadata(), fs::symlink_metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

/// Gives a file that was set aside its name back, unless a newer one has it by now.
fn give_back(aside: &Path, target: &Path) -> io::Result<()> {
    let renamed = match renameat_with(CWD, aside, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(()),
        Err(e) => io::Error::from(e),
    };
    match renamed.kind() {
        io::ErrorKind::AlreadyExists => fs::remove_file(aside),
        io::ErrorKind::NotFound => Ok(()),
        // The file system has no such rename.
        _ => match fs::hard_link(aside, target) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => fs::remove_file(aside),
        },
    }
}

/// Gives its name back to a file that an interrupted removal left aside; `false` for a file that is none.
pub(super) fn restore(aside: &Path) -> io::Result<bool> {
    let name = aside.file_name().and_then(|name| name.to_str());
    let target = name.and_then(|name| name.strip_prefix(ASIDE)).and_then(|rest| rest.split_once('-'));
    match target {
        Some((_, name)) if !name.is_empty() => give_back(aside, &aside.with_file_name(name)).map(|()| true),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dir: &Path) -> Location {
        Location::at_path(&dir.join("model.safetensors")).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_that_took_the_name_after_the_look_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = at(dir.path());
        fs::write(path(&at).unwrap(), b"older").unwrap();
        let looked_at = open_regular(&Fence::default(), &at).unwrap();
        fs::write(dir.path().join("newer"), b"newer").unwrap();
        fs::rename(dir.path().join("newer"), path(&at).unwrap()).unwrap();
        assert_eq!(remove_this(&at, &looked_at).unwrap_err().kind(), ErrorKind::Changed);
        assert_eq!(fs::read(path(&at).unwrap()).unwrap(), b"newer");
        assert_eq!(names(dir.path()), ["model.safetensors"]);
    }

    #[test]
    fn what_an_interrupted_removal_left_aside_gets_its_name_back() {
        let dir = tempfile::tempdir().unwrap();
        let at = at(dir.path());
        let aside = dir.path().join(format!("{ASIDE}{}-model.safetensors", token()));
        fs::write(&aside, b"whole").unwrap();
        super::super::remove::sweep(&Location::at_path(dir.path()).unwrap()).unwrap();
        assert_eq!(fs::read(path(&at).unwrap()).unwrap(), b"whole");
        // A newer file of that name is not touched.
        fs::write(&aside, b"older").unwrap();
        super::super::remove::sweep(&Location::at_path(dir.path()).unwrap()).unwrap();
        assert_eq!(fs::read(path(&at).unwrap()).unwrap(), b"whole");
        assert_eq!(names(dir.path()), ["model.safetensors"]);
    }
}
