//! Which place a path names: through links, `..` and mounts, also before it exists.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::mount::{self, Mount};
use super::names::path;
use crate::error::{Error, Result};
use crate::location::Location;
use crate::place::{FileId, LocalPlace, Place};

/// Links that are followed on one path; Linux follows as many.
const MAX_LINKS: usize = 40;

/// A path without links: the part that exists, and the names that remain.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) existing: PathBuf,
    pub(super) rest: Vec<OsString>,
}

impl Resolved {
    /// The whole path.
    pub(super) fn path(&self) -> PathBuf {
        self.existing.iter().chain(self.rest.iter().map(OsString::as_os_str)).collect()
    }
}

/// Follows links and `..` as far as the path exists. Below that, `..` undoes a name: what is made there has no links.
pub(super) fn resolve(path: &Path) -> io::Result<Resolved> {
    let mut waiting: VecDeque<OsString> = names(path).collect();
    let (mut existing, mut rest, mut links) = (PathBuf::from("/"), Vec::new(), 0);
    while let Some(name) = waiting.pop_front() {
        if name == ".." {
            if rest.pop().is_none() {
                existing.pop();
            }
            continue;
        }
        if !rest.is_empty() {
            rest.push(name);
            continue;
        }
        let next = existing.join(&name);
        match fs::symlink_metadata(&next) {
            Ok(meta) if meta.is_symlink() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                let target = fs::read_link(&next)?;
                if target.is_absolute() {
                    existing = PathBuf::from("/");
                }
                for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
                    waiting.push_front(name);
                }
            }
            Ok(_) => existing = next,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => rest.push(name),
            Err(e) => return Err(e),
        }
    }
    Ok(Resolved { existing, rest })
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    })
}

/// The place of a location.
pub(super) fn place(at: &Location) -> Result<Place> {
    let failed = |e| Error::io(at, "cannot look up where it is", e);
    let Resolved { existing, rest } = resolve(path(at)?).map_err(failed)?;
    let nearest = id(&existing).map_err(failed)?;
    let paths = paths_of(existing, nearest, &mount::table());
    let mut holders = BTreeSet::new();
    for ancestor in paths.iter().flat_map(|path| path.ancestors()) {
        holders.insert(id(ancestor).map_err(failed)?);
    }
    let rest = rest.into_iter().map(|name| name.to_string_lossy().into_owned()).collect();
    Ok(Place::Local(LocalPlace { nearest, rest, holders, paths }))
}

fn id(path: &Path) -> io::Result<FileId> {
    fs::metadata(path).map(|meta| FileId { device: meta.dev(), inode: meta.ino() })
}

/// Every path at which a file shows: a bind mount shows a part of a file system at another point.
fn paths_of(path: PathBuf, file: FileId, mounts: &[Mount]) -> Vec<PathBuf> {
    let mut all = vec![path.clone()];
    let Some(own) = mount::mount_of(mounts, &path) else { return all };
    let Ok(below) = path.strip_prefix(&own.point) else { return all };
    let inner = own.root.join(below);
    for other in mounts.iter().filter(|other| other.device == own.device) {
        let Ok(below) = inner.strip_prefix(&other.root) else { continue };
        let name = other.point.join(below);
        // A later mount may hide it.
        if !all.contains(&name) && id(&name).is_ok_and(|found| found == file) {
            all.push(name);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::place::Relation;

    fn place_of(path: &Path) -> Place {
        place(&Location::at_path(path).unwrap()).unwrap()
    }

    #[test]
    fn links_and_parents_are_followed_as_far_as_there_is_something() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("a/base")).unwrap();
        fs::create_dir(root.join("sub")).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        symlink("a/base", root.join("link")).unwrap();
        symlink(root.join("link"), root.join("twice")).unwrap();
        symlink("a/later", root.join("dangling")).unwrap();
        symlink("round", root.join("round")).unwrap();
        for (text, existing, rest) in [
            ("link", "a/base", ""),
            ("twice", "a/base", ""),
            ("twice/out", "a/base", "out"),
            ("link/..", "a", ""),
            ("sub/../a/base", "a/base", ""),
            // Making `new` and then `new/..` ends here: what is made on the way has no links.
            ("new/../a/base", "a/base", ""),
            ("new/deep/../../link/x", "a/base", "x"),
            ("dangling/x", "a", "later/x"),
            ("a/new/x", "a", "new/x"),
            ("file/x", "file", "x"),
        ] {
            let found = resolve(&root.join(text)).unwrap();
            let rest: Vec<OsString> = rest.split('/').filter(|n| !n.is_empty()).map(OsString::from).collect();
            assert_eq!(found, Resolved { existing: root.join(existing), rest }, "{text}");
        }
        assert!(resolve(&root.join("round/x")).is_err());
    }

    #[test]
    fn two_names_of_a_folder_are_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("base/sub")).unwrap();
        symlink("base", at("link")).unwrap();
        symlink("base/sub", at("inner")).unwrap();
        let base = place_of(&at("base"));
        for (name, says) in [
            ("link", Relation::Same),
            ("base/sub/..", Relation::Same),
            ("new/../base", Relation::Same),
            ("link/new/out", Relation::Inside),
            ("inner/out", Relation::Inside),
            (".", Relation::Around),
            ("base2", Relation::Apart),
            ("out/base", Relation::Apart),
        ] {
            assert_eq!(place_of(&at(name)).relation(&base), says, "{name}");
        }
        assert_eq!(place_of(&at("out")).relation(&place_of(&at("x/../out"))), Relation::Same, "neither exists");
        assert!(place_of(&at("out/.shardfuse/x")).is_below_name(".shardfuse"));
    }

    #[test]
    fn a_bind_mount_shows_the_same_files_under_other_paths() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for name in ["base/sub", "view", "hidden"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let mount = |point: &Path, inner: &str| Mount {
            point: point.to_owned(),
            device: "254:0".into(),
            root: inner.into(),
            kind: "ext4".into(),
            source: "/dev/vda".into(),
            options: "rw".into(),
        };
        // As if `view` were made by `mount --bind base/sub view`, where the file system's own root is `/disk`.
        let mounts = [mount(&root, "/disk"), mount(&root.join("view"), "/disk/base/sub")];
        let file = id(&root.join("base/sub")).unwrap();
        let names = |path: &str, file| paths_of(root.join(path), file, &mounts);
        assert_eq!(names("hidden", id(&root.join("hidden")).unwrap()), [root.join("hidden")]);
        // Without the real mount the other name shows another folder, and is left out.
        assert_eq!(names("base/sub", file), [root.join("base/sub")]);
        let view = id(&root.join("view")).unwrap();
        assert_eq!(names("view", view), [root.join("view")]);
        // A link in the mount's place makes the name show what the mount would.
        fs::remove_dir(root.join("view")).unwrap();
        symlink("base/sub", root.join("view")).unwrap();
        assert_eq!(names("view", file), [root.join("view"), root.join("base/sub")]);
    }
}
