//! The folders that a process of a fleet is held to: it touches no file outside of them.
//!
//! Names are checked before (see [`Allow`](crate::Allow)). Here a file counts as where it really lies, so that links
//! within or between allowed folders work and others do not. What is read is checked on the open descriptor, by the path
//! that the system has for it. What is written or listed is checked by its folder before; somebody who exchanges
//! that folder for a link at the very moment, on the same file system, is not stopped by this.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::names::{HIDDEN, UPLOADS, path};
use super::{folder, identity};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// The folders that files must lie in, if there is a limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fence {
    prefixes: Option<Arc<[PathBuf]>>,
    /// A folder that stays closed although a prefix covers it.
    closed: Option<Arc<Path>>,
}

impl Fence {
    /// A fence around those of the prefixes that are files.
    pub(crate) fn new(prefixes: &[Location]) -> Self {
        let prefixes = prefixes.iter().filter_map(Location::local_path).map(Path::to_owned).collect();
        Self { prefixes: Some(prefixes), closed: None }
    }

    /// The same, with a folder that stays closed.
    pub(crate) fn closing(self, closed: Option<&Location>) -> Self {
        Self { closed: closed.and_then(Location::local_path).map(Arc::from), ..self }
    }

    /// Refuses an open file that lies outside (`NotAllowed`).
    pub(super) fn check_open(&self, at: &Location, file: impl AsFd) -> Result<()> {
        match &self.prefixes {
            Some(prefixes) => self.check(prefixes, at, &real(at, file)?),
            None => Ok(()),
        }
    }

    /// Refuses a folder that lies outside. It need not exist: then it is judged by its nearest ancestor that does, and
    /// the names that remain.
    pub(super) fn check_folder(&self, dir: &Location) -> Result<()> {
        self.check_path(dir, path(dir)?)
    }

    /// Refuses a file that is written or removed in a folder that lies outside.
    pub(super) fn check_parent(&self, at: &Location) -> Result<()> {
        let place = path(at)?;
        self.check_path(at, place.parent().unwrap_or(place))
    }

    /// The same for a file and its uploads.
    pub(super) fn check_uploads(&self, at: &Location) -> Result<()> {
        let place = path(at)?;
        let parent = place.parent().unwrap_or(place);
        self.check_path(at, parent)?;
        self.check_path(at, &parent.join(HIDDEN).join(UPLOADS))
    }

    /// The same for any path; `at` is what the error names.
    pub(super) fn check_path(&self, at: &Location, place: &Path) -> Result<()> {
        let Some(prefixes) = &self.prefixes else { return Ok(()) };
        let nearest = folder::nearest_existing(place);
        let open = rustix::fs::open(nearest, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::io(at, "cannot open its folder", e))?;
        let rest = place.strip_prefix(nearest).unwrap_or(Path::new(""));
        self.check(prefixes, at, &real(at, open)?.join(rest))
    }

    fn check(&self, prefixes: &[PathBuf], at: &Location, real: &Path) -> Result<()> {
        // Looked up each time: a folder may be made, or moved to another disk, while the process runs.
        let covers = |folder: &Path| -> Result<bool> {
            let resolved =
                identity::resolve(folder).map_err(|e| Error::io(folder.display(), "cannot look it up", e))?;
            Ok(real.starts_with(resolved.path()))
        };
        if let Some(closed) = &self.closed
            && covers(closed)?
        {
            let message = format!(
                "really lies at {}, in {}, which the coordinator keeps for itself",
                real.display(),
                closed.display()
            );
            return Err(Error::new(ErrorKind::NotAllowed, at, message));
        }
        for prefix in prefixes {
            if covers(prefix)? {
                return Ok(());
            }
        }
        let named: Vec<String> = prefixes.iter().map(|prefix| prefix.display().to_string()).collect();
        let allowed = if named.is_empty() { "no folder".to_owned() } else { named.join(", ") };
        let message = format!("really lies at {}; allowed is {allowed}", real.display());
        Err(Error::new(ErrorKind::NotAllowed, at, message)
            .with_hint("links may lead to other allowed places only; name the folder with --allow"))
    }
}

/// The path that the system has for an open file.
fn real(at: &Location, file: impl AsFd) -> Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
        .map_err(|e| Error::io(at, "cannot tell where it lies, without /proc", e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn at(path: &Path) -> Location {
        Location::at_path(path).unwrap()
    }

    #[test]
    fn a_file_counts_as_where_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let root = |name: &str| dir.path().join(name);
        for name in ["allowed/a", "also", "outside"] {
            fs::create_dir_all(root(name)).unwrap();
            fs::write(root(name).join("x"), "x").unwrap();
        }
        for (target, name) in [
            ("a/x", "allowed/within"),
            ("../also/x", "allowed/between"),
            ("../outside/x", "allowed/away"),
            ("../outside", "allowed/folder"),
        ] {
            symlink(target, root(name)).unwrap();
        }
        // A prefix that is a link itself stands for where it leads.
        symlink("also", root("alias")).unwrap();
        let fence = Fence::new(&[at(&root("allowed")), at(&root("alias")), "s3://m".parse().unwrap()]);
        for (name, inside) in [
            ("allowed/a/x", true),
            ("allowed/within", true),
            ("allowed/between", true),
            ("also/x", true),
            ("allowed/away", false),
            ("allowed/folder/x", false),
            ("outside/x", false),
        ] {
            let file = fs::File::open(root(name)).unwrap();
            assert_eq!(fence.check_open(&at(&root(name)), &file).is_ok(), inside, "{name}");
        }
        for (name, inside) in
            [("allowed/new/deep/x", true), ("allowed/folder/x", false), ("allowed/folder/new/x", false), ("x", false)]
        {
            assert_eq!(fence.check_parent(&at(&root(name))).is_ok(), inside, "{name}");
        }
        let error = fence.check_folder(&at(&root("allowed/folder"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAllowed);
        assert!(error.to_string().contains("outside") && error.to_string().contains("allowed"), "{error}");
        // Uploads lie in a folder of their own, which may be a link too.
        fs::create_dir(root("allowed/out")).unwrap();
        symlink("../../outside", root("allowed/out/.shardfuse")).unwrap();
        let output = at(&root("allowed/out/model.safetensors"));
        assert!(fence.check_parent(&output).is_ok() && fence.check_uploads(&output).is_err());
    }

    #[test]
    fn a_prefix_that_does_not_exist_yet_may_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let fence = Fence::new(&[at(&dir.path().join("out/merged"))]);
        fence.check_parent(&at(&dir.path().join("out/merged/model.safetensors"))).unwrap();
        assert!(fence.check_parent(&at(&dir.path().join("out/other/x"))).is_err());
    }

    #[test]
    fn without_a_file_prefix_no_file_may_be_touched() {
        let fence = Fence::new(&["s3://m".parse().unwrap()]);
        assert_eq!(fence.check_folder(&at(Path::new("/"))).unwrap_err().kind(), ErrorKind::NotAllowed);
        assert!(Fence::default().check_folder(&at(Path::new("/"))).is_ok(), "a command of one's own has no limit");
    }
}
