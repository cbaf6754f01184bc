//! Uploads: parts by many hands, and one step that makes them an object.

use bytes::Bytes;
use object_store::multipart::PartId as StoreId;

use super::bucket::{Bucket, payload};
use super::ids::{self, Upload};
use super::pending::Pending;
use super::{in_progress, marker, read};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::store::{Completion, PartSlot};
use crate::token::token;

/// The parts that an object can have, on every store.
const MOST_PARTS: u32 = 10_000;

pub(super) fn gone(at: &Location, upload: &UploadId) -> Error {
    Error::new(ErrorKind::NoSuchUpload, at, format!("there is no upload {upload} to it"))
}

pub(super) async fn begin(bucket: &Bucket, at: &Location, _size: u64) -> Result<UploadId> {
    bucket.refuse_anonymous(at)?;
    let path = bucket.object(at)?;
    let before = match read::head(bucket, at).await {
        Ok(meta) => Some(meta.pin),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let tag = before.as_ref().map(|pin| pin.as_str());
    let id = match bucket.pending {
        Pending::Marked => {
            let id = ids::name();
            marker::begin(bucket, at, &id).await?;
            id
        }
        _ => bucket.call(at, "cannot begin an upload", bucket.client.create_multipart(&path)).await?,
    };
    let upload = Upload::new(tag, id).written();
    match Upload::parse(&upload) {
        Some(_) => Ok(upload),
        None => Err(Error::new(ErrorKind::Unsupported, at, "its store gave an upload an id that cannot be used")),
    }
}

pub(super) async fn probe(bucket: &Bucket, at: &Location, upload: &UploadId) -> Result<bool> {
    let path = bucket.object(at)?;
    match Upload::parse(upload) {
        Some(upload) => match bucket.pending {
            Pending::Marked => marker::exists(bucket, at, &upload.id).await,
            _ => in_progress::exists(bucket, at, &path, &upload.id).await,
        },
        None => Ok(false),
    }
}

pub(super) async fn put_part(
    bucket: &Bucket,
    at: &Location,
    upload: &UploadId,
    part: PartSlot,
    bytes: &Bytes,
) -> Result<PartId> {
    let path = bucket.object(at)?;
    let Upload { id, .. } = of_part(at, upload, part)?;
    // A block put after the upload ended would only lie there for a week, but its writer would not hear of it.
    if matches!(bucket.pending, Pending::Marked) && !marker::exists(bucket, at, &id).await? {
        return Err(gone(at, upload));
    }
    if bytes.is_empty() && matches!(bucket.pending, Pending::Marked) {
        // Azure takes no block without bytes, and makes an empty blob of a list of none.
        return Ok(ids::part(0, "none"));
    }
    let doing = format!("cannot put part {} of {} bytes", part.number, bytes.len());
    let request = bucket.client.put_part(&path, &id, part.number as usize, payload(bytes));
    match bucket.call(at, &doing, request).await {
        Ok(put) => Ok(ids::part(bytes.len(), &put.content_id)),
        // Stores differ in what they call it.
        Err(e) if e.kind() == ErrorKind::NotFound => Err(gone(at, upload).with_source(e)),
        Err(e) => Err(e),
    }
}

/// The upload that a part is put to.
pub(super) fn of_part(at: &Location, upload: &UploadId, part: PartSlot) -> Result<Upload> {
    let written = Upload::parse(upload).ok_or_else(|| gone(at, upload))?;
    if part.number >= MOST_PARTS {
        let message = format!("part {} is one too many, an object has at most {MOST_PARTS}", part.number);
        return Err(Error::new(ErrorKind::Permanent, at, message));
    }
    Ok(written)
}

pub(super) async fn complete(bucket: &Bucket, at: &Location, what: Completion<'_>) -> Result<Option<Pin>> {
    let Completion { upload, parts, size } = what;
    let path = bucket.object(at)?;
    let ids = ids::parts(at, parts, size)?;
    let Some(written) = Upload::parse(upload) else { return Err(gone(at, upload)) };
    let marked = matches!(bucket.pending, Pending::Marked);
    let result = if marked && !marker::exists(bucket, at, &written.id).await? {
        Err(gone(at, upload))
    } else {
        let blocks = if marked && size == 0 { &[] } else { ids.as_slice() };
        let named = blocks.iter().map(|id| StoreId { content_id: id.clone() }).collect();
        let request = bucket.client.complete_multipart(&path, &written.id, named);
        match bucket.call(at, &format!("cannot complete an upload of {} parts", parts.len()), request).await {
            Ok(answer) => held(bucket, at, upload, size, answer.e_tag).await.map(Some),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(gone(at, upload).with_source(e)),
            Err(e) => Err(e),
        }
    };
    let made = match result {
        Err(e) if may_be_done(&e) => match done_before(bucket, at, &written, &ids, size).await {
            Some(made) => {
                tracing::debug!(location = %at, error = %e.chain(), "the upload was completed before");
                made
            }
            None => return Err(e),
        },
        result => result?,
    };
    if marked && let Err(error) = marker::end(bucket, at, &written.id).await {
        tracing::warn!(location = %at, error = %error.chain(), "the mark of a completed upload is left behind");
    }
    Ok(made)
}

/// Holds the answer to a completion against the object that is there now: its length, and the ETag that was answered.
/// versitygw 1.8 answers with success although the upload is gone and an older object stays.
async fn held(bucket: &Bucket, at: &Location, upload: &UploadId, size: u64, answered: Option<String>) -> Result<Pin> {
    let called = || format!("the store called upload {upload} complete");
    let now = match read::head(bucket, at).await {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::new(ErrorKind::NoSuchUpload, at, format!("{}, and nothing is there", called())));
        }
        now => now?,
    };
    let tag = answered.as_deref().unwrap_or("none");
    if now.size == size && ids::is_same_tag(tag, now.pin.as_str()) {
        return Ok(now.pin);
    }
    let message = format!(
        "{} with ETag {tag} and {size} bytes, and what is there has ETag {} and {} bytes",
        called(),
        now.pin,
        now.size
    );
    Err(Error::new(ErrorKind::NoSuchUpload, at, message))
}

/// Whether a failure to complete may come from having completed before: the upload is gone, its parts are no longer
/// what a list may name, or the reply was lost.
fn may_be_done(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NoSuchUpload | ErrorKind::InvalidPart | ErrorKind::Transient)
}

/// What an earlier completion left at the path, if there was one: an object of the upload's length. Its version where it
/// has the ETag that S3 gives just these parts; `Some(None)` where all that is known is that it came after the upload began.
async fn done_before(
    bucket: &Bucket,
    at: &Location,
    upload: &Upload,
    parts: &[String],
    size: u64,
) -> Option<Option<Pin>> {
    let now = read::head(bucket, at).await.ok().filter(|now| now.size == size)?;
    let tag = now.pin.as_str();
    if ids::composite(parts).is_some_and(|ours| ids::is_same_tag(&ours, tag)) {
        return Some(Some(now.pin));
    }
    upload.is_older_than(tag).then_some(None)
}

pub(super) async fn abort(bucket: &Bucket, at: &Location, upload: &UploadId) -> Result<()> {
    let path = bucket.object(at)?;
    let Some(Upload { id, .. }) = Upload::parse(upload) else { return Ok(()) };
    if matches!(bucket.pending, Pending::Marked) {
        return marker::end(bucket, at, &id).await;
    }
    match bucket.call(at, "cannot drop an upload", bucket.client.abort_multipart(&path, &id)).await {
        Err(e) if !matches!(e.kind(), ErrorKind::NoSuchUpload | ErrorKind::NotFound) => Err(e),
        _ => Ok(()),
    }
}

/// Begins an upload and drops it: whether the bucket is there, and may be written.
pub(super) async fn check_output(bucket: &Bucket, dir: &Location) -> Result<()> {
    let trial = dir.join(&format!(".shardfuse/trial-{}", token()))?;
    let upload = begin(bucket, &trial, 0).await?;
    abort(bucket, &trial, &upload).await
}
