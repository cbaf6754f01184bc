//! What else lies in the folder of a place.

use std::fs;
use std::io;

use super::names::path;
use crate::error::{Error, Result};
use crate::location::Location;

/// The most names that are looked at. More is no folder that a person looks through.
const MOST: usize = 10_000;

/// The names, sorted. A folder that does not exist has none.
pub(super) fn beside(at: &Location) -> Result<Vec<String>> {
    let Some(folder) = path(at)?.parent() else { return Ok(Vec::new()) };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(at, format!("cannot list {}", folder.display()), e)),
    };
    let names = entries.take(MOST).filter_map(io::Result::ok);
    let mut names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_a_place_are_told_and_those_below_are_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("base/deep")).unwrap();
        fs::write(dir.path().join("file"), "x").unwrap();
        let names = |name: &str| beside(&Location::at_path(&dir.path().join(name)).unwrap()).unwrap();
        assert_eq!(names("bsae"), ["base", "file"]);
        assert!(names("nowhere/base").is_empty());
    }
}
