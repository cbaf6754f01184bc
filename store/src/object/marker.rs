//! Uploads on Azure, which knows only blocks: a small object beside the target stands for each.

use bytes::Bytes;

use super::bucket::Bucket;
use super::marker_name::{folder, marker};
use super::{ids, list, read, write};
use crate::error::{ErrorKind, Result};
use crate::location::Location;

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
