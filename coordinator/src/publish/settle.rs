//! Completing an upload, and making sure of what is in place then.

use shardfuse_merge::Result;
use shardfuse_store::{Completion, ErrorKind, Location, Meta, PartId, Store, Stores, UploadId};

use super::content::Content;
use crate::failure::io;

/// Files that are completed at a time.
pub(super) const CONCURRENT: usize = 4;

/// What a file must be once it is completed.
pub(super) struct Expected<'a> {
    pub(super) content: &'a Content,
    /// Whether to read the file and compare it, even if the store has said nothing suspicious.
    pub(super) read_back: bool,
}

/// Completes an upload, and looks at what is in place then. Returns why the file cannot be made of these parts, if so.
pub(super) async fn settle(
    stores: &Stores,
    at: &Location,
    upload: &UploadId,
    ids: &[(u32, PartId)],
    Expected { content, read_back }: Expected<'_>,
) -> Result<Option<String>> {
    let (store, size) = (&*stores.open(at), content.size);
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
            if !content.is_in(stores, at, Some(&after.pin)).await? {
                told.map_err(io)?;
                return Ok(Some("what is in place holds other bytes than they have".into()));
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
