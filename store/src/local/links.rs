//! The links to folders in a tree. A write or a removal through one of them would go somewhere else.

use std::fs;
use std::io;

use super::list::MAX_ENTRIES;
use super::names::path;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// The names of the links, sorted. None of them is followed; the folder itself may be a link.
pub(super) fn links(dir: &Location) -> Result<Vec<String>> {
    let (mut found, mut looked_at) = (Vec::new(), 0);
    let mut waiting = vec![(path(dir)?.to_owned(), String::new())];
    while let Some((folder, below)) = waiting.pop() {
        let failed = |e| Error::io(dir, format!("cannot list {}", folder.display()), e);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Removed or replaced meanwhile, or not there yet.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(failed(e)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            looked_at += 1;
            if looked_at > MAX_ENTRIES {
                let message = format!("holds more than {MAX_ENTRIES} files and folders");
                return Err(Error::new(ErrorKind::Permanent, dir, message));
            }
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                waiting.push((entry.path(), format!("{name}/")));
            } else if kind.is_symlink() && fs::metadata(entry.path()).is_ok_and(|meta| meta.is_dir()) {
                found.push(name);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_to_folders_are_named_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("elsewhere/deep")).unwrap();
        symlink("deep", at("elsewhere/not_seen")).unwrap();
        fs::create_dir_all(at("out/sub")).unwrap();
        fs::write(at("out/file"), "x").unwrap();
        symlink("file", at("out/to_file")).unwrap();
        symlink("nowhere", at("out/dangling")).unwrap();
        symlink("../elsewhere", at("out/folder")).unwrap();
        symlink("../../elsewhere/deep", at("out/sub/deeper")).unwrap();
        symlink("out", at("alias")).unwrap();
        for name in ["out", "alias"] {
            let found = links(&Location::at_path(&at(name)).unwrap()).unwrap();
            assert_eq!(found, ["folder", "sub/deeper"], "{name}");
        }
        for name in ["absent", "out/file"] {
            assert_eq!(links(&Location::at_path(&at(name)).unwrap()).unwrap(), Vec::<String>::new(), "{name}");
        }
    }
}
