//! Whole objects: written, created, removed.

use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

use super::bucket::{Bucket, payload};
use super::{in_progress, list};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::token::token;

pub(super) async fn put(bucket: &Bucket, at: &Location, bytes: &Bytes) -> Result<()> {
    bucket.refuse_anonymous(at)?;
    let path = bucket.object(at)?;
    let doing = format!("cannot write {} bytes", bytes.len());
    bucket.call(at, &doing, bucket.client.put(&path, payload(bytes))).await?;
    Ok(())
}

pub(super) async fn create(bucket: &Bucket, at: &Location, bytes: &Bytes) -> Result<()> {
    bucket.refuse_anonymous(at)?;
    let path = bucket.object(at)?;
    let request = bucket.client.put_opts(&path, payload(bytes), PutMode::Create.into());
    match bucket.call(at, "cannot create it", request).await {
        Ok(_) => Ok(()),
        // The condition is that there is no version at all.
        Err(e) if matches!(e.kind(), ErrorKind::Changed | ErrorKind::AlreadyExists) => {
            Err(Error::new(ErrorKind::AlreadyExists, at, "exists already"))
        }
        Err(e) => Err(e),
    }
}

pub(super) async fn delete(bucket: &Bucket, at: &Location) -> Result<()> {
    bucket.refuse_anonymous(at)?;
    let path = bucket.object(at)?;
    match bucket.call(at, "cannot remove it", bucket.client.delete(&path)).await {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Uploads go first: whoever still puts parts is told so before what was published is gone.
pub(super) async fn delete_tree(bucket: &Bucket, dir: &Location) -> Result<()> {
    bucket.refuse_anonymous(dir)?;
    let inside = bucket.object(dir)?;
    in_progress::abort_all(bucket, dir, &inside).await;
    let mut paths = Vec::new();
    for entry in list::all(bucket, dir).await? {
        paths.push(bucket.object(&dir.join(&entry.name)?)?);
    }
    let doing = format!("cannot remove {} objects", paths.len());
    bucket.call(dir, &doing, remove(&*bucket.client, paths)).await
}

async fn remove(client: &(impl ObjectStore + ?Sized), paths: Vec<Path>) -> object_store::Result<()> {
    let mut removed = client.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
    while let Some(result) = removed.next().await {
        match result {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Creates an object of a random name twice.
pub(super) async fn conditional_puts(bucket: &Bucket, dir: &Location) -> Result<bool> {
    let trial = dir.join(&format!(".shardfuse/trial-{}", token()))?;
    create(bucket, &trial, &Bytes::from_static(b"first")).await?;
    let second = create(bucket, &trial, &Bytes::from_static(b"second")).await;
    if let Err(error) = delete(bucket, &trial).await {
        tracing::warn!(location = %trial, %error, "a trial object is left behind");
    }
    match second {
        Ok(()) => {
            tracing::warn!(location = %dir, "its store ignores the condition of a conditional put");
            Ok(false)
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(true),
        Err(e) if e.kind() == ErrorKind::Unsupported => Ok(false),
        Err(e) => Err(e),
    }
}
