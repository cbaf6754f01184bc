//! Completing an upload, and making sure of what is in place then.

use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_merge::Result;
use shardfuse_store::{Completion, ErrorKind, Location, Meta, PartId, Pin, Store, UploadId};

use crate::failure::io;

/// Bytes that are read at a time to digest a file, and how many such reads run ahead.
const CHUNK: (u64, usize) = (8 << 20, 4);
/// Files that are completed at a time.
pub(super) const CONCURRENT: usize = 4;

/// What a file must be once it is completed.
pub(super) struct Expected {
    pub(super) size: u64,
    pub(super) hash: blake3::Hash,
    /// Whether to read the file and compare its digest, even if the store has said nothing suspicious.
    pub(super) read_back: bool,
}

/// Completes an upload, and looks at what is in place then. Returns why the file cannot be made of these parts, if so.
pub(super) async fn settle(
    store: &dyn Store,
    at: &Location,
    upload: &UploadId,
    ids: &[(u32, PartId)],
    Expected { size, hash, read_back }: Expected,
) -> Result<Option<String>> {
    let told = store.complete(at, Completion { upload, parts: ids, size }).await;
    if let Err(e) = &told
        && matches!(e.kind(), ErrorKind::InvalidPart | ErrorKind::NoSuchUpload)
    {
        return Ok(Some(e.chain()));
    }
    let after = find(store, at).await?;
    match (told, after) {
        (Ok(Some(made)), Some(after)) if after.size == size && after.pin == made && !read_back => {}
        // The file may be there by a completion whose reply was lost, by a coordinator that was killed, or not by us at all.
        (told, Some(after)) if after.size == size => {
            if hash_file(store, at, size, Some(&after.pin)).await? != hash {
                told.map_err(io)?;
                return Ok(Some("what is in place has another digest than they have".into()));
            }
        }
        (told, _) => {
            told.map_err(io)?;
            return Ok(Some("the store called it complete, and it is not there".into()));
        }
    }
    Ok(None)
}

/// What is at a place, if anything.
pub(super) async fn find(store: &dyn Store, at: &Location) -> Result<Option<Meta>> {
    match store.head(at).await {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io(e)),
    }
}

/// BLAKE3 of a file, as `b3sum` prints it.
pub async fn hash_file(store: &dyn Store, at: &Location, size: u64, pin: Option<&Pin>) -> Result<blake3::Hash> {
    let (chunk, ahead) = CHUNK;
    let mut chunks = stream::iter((0..size).step_by(chunk as usize))
        .map(|offset| store.read(at, offset, vec![0; chunk.min(size - offset) as usize], pin))
        .buffered(ahead)
        .boxed();
    let mut hasher = blake3::Hasher::new();
    while let Some(bytes) = chunks.try_next().await.map_err(io)? {
        hasher.update(&bytes);
    }
    Ok(hasher.finalize())
}
