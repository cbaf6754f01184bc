//! Uploads on Azure, which knows only blocks: a small object beside the target stands for each.

use bytes::Bytes;

use super::{Bucket, ids, list, read, write};
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

fn folder(at: &Location) -> Result<Location> {
    match at.parent() {
        Some(parent) => parent.join(FOLDER),
        None => Err(Error::new(ErrorKind::Permanent, at, "names all of a container, not an object")),
    }
}

fn marker(at: &Location, id: &str) -> Result<Location> {
    let name = at.file_name().unwrap_or_default();
    folder(at)?.join(&format!("{name}.{id}"))
}

/// Begins an upload, and ends those to the same path that are there already.
pub(super) async fn begin(bucket: &Bucket, at: &Location, id: &str) -> Result<()> {
    let (folder, name) = (folder(at)?, at.file_name().unwrap_or_default());
    for older in list::all(bucket, &folder).await? {
        let target = older.name.rsplit_once('.').map(|(target, _)| target);
        if target == Some(name) {
            tracing::info!(location = %at, upload = older.name, "an older upload is dropped");
            write::delete(bucket, &folder.join(&older.name)?).await?;
        }
    }
    write::create(bucket, &marker(at, id)?, &Bytes::from_static(b"an upload in progress\n")).await
}

/// Whether the upload goes on.
pub(super) async fn exists(bucket: &Bucket, at: &Location, id: &str) -> Result<bool> {
    if !ids::is_name(id) {
        return Ok(false);
    }
    match read::head(bucket, &marker(at, id)?).await {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Ends an upload.
pub(super) async fn end(bucket: &Bucket, at: &Location, id: &str) -> Result<()> {
    match ids::is_name(id) {
        true => write::delete(bucket, &marker(at, id)?).await,
        false => Ok(()),
    }
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
