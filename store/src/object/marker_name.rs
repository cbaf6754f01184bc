//! Where the markers of uploads lie, see [`marker`](super::marker).

use super::ids;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// The folder of the markers beside their targets.
const FOLDER: &str = ".shardfuse/upload";

/// Whether an entry of a listing is a marker.
pub(super) fn is_marker(dir: &Location, name: &str) -> bool {
    let path = format!("{}/{name}", dir.path());
    let Some((folder, marker)) = path.rsplit_once('/') else { return false };
    folder.ends_with(&format!("/{FOLDER}")) && marker.rsplit_once('.').is_some_and(|(_, id)| ids::is_name(id))
}

/// The folder of the markers of the uploads to a location.
pub(super) fn folder(at: &Location) -> Result<Location> {
    match at.parent() {
        Some(parent) => parent.join(FOLDER),
        None => Err(Error::new(ErrorKind::Permanent, at, "names all of a container, not an object")),
    }
}

/// The marker of an upload.
pub(super) fn marker(at: &Location, id: &str) -> Result<Location> {
    let name = at.file_name().unwrap_or_default();
    folder(at)?.join(&format!("{name}.{id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_markers_are_hidden() {
        let dir: Location = "az://models/out".parse().unwrap();
        let id = ids::name();
        assert!(is_marker(&dir, &format!(".shardfuse/upload/model.safetensors.{id}")));
        assert!(is_marker(&dir, &format!("deep/.shardfuse/upload/x.{id}")));
        assert!(is_marker(&dir.join(FOLDER).unwrap(), &format!("x.{id}")));
        for name in [".shardfuse/plan", ".shardfuse/upload/x", &format!("upload/x.{id}"), &format!("x.{id}")] {
            assert!(!is_marker(&dir, name), "{name}");
        }
    }
}
