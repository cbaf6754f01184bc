//! Parts that the store copies from another object.
//!
//! S3 copies a range of one object into a part, held to an ETag, if the credentials of the upload may read that object. Whether they
//! may, only the store knows. So every refusal of the copy is `Unsupported`, and the caller puts the bytes instead; if the
//! credentials are no good at all, that fails in its turn.

use super::bucket::{Bucket, Login};
use super::ids::{self, Upload};
use super::server_copy::{DOING, Said, ServerCopy, Source, Target};
use super::upload::{gone, of_part, put_part};
use super::verdict::{Verdict, asks, judge};
use super::wire::Outcome;
use super::{failure, in_progress, trial};
use crate::chunk::{Chunk, Copies};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::store::PartSlot;

/// The most bytes of one copy (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>).
const MOST: u64 = 5 << 30;

pub(super) fn copies(bucket: &Bucket, from: &Location) -> Copies {
    match excluded(bucket, from) {
        Some(why) => Copies::none(format!("{from} {why}")),
        None => Copies::Parts { max: MOST },
    }
}

/// Why nothing of an object is copied.
fn excluded(bucket: &Bucket, from: &Location) -> Option<&'static str> {
    match (&bucket.server_copy, &bucket.login) {
        (ServerCopy::None { why }, _) => Some(why),
        (_, Login::Anonymous) => Some("is reached anonymously"),
        (ServerCopy::S3 { service, .. }, _) => service.excludes(from),
    }
}

pub(super) async fn compose_part(
    bucket: &Bucket,
    at: &Location,
    upload: &UploadId,
    part: PartSlot,
    chunks: Vec<Chunk>,
) -> Result<PartId> {
    let (from, range, pin) = match <[Chunk; 1]>::try_from(chunks) {
        Ok([Chunk::Bytes(bytes)]) => return put_part(bucket, at, upload, part, &bytes).await,
        Ok([Chunk::Copy { from, range, pin }]) => (from, range, pin),
        Err(chunks) => {
            let message = format!("its store copies a whole part, and this one has {} pieces", chunks.len());
            return Err(Error::new(ErrorKind::Unsupported, at, message));
        }
    };
    let refuse = |why: &str| Error::new(ErrorKind::Unsupported, &from, format!("{DOING}: {why}"));
    if let Some(why) = excluded(bucket, &from) {
        return Err(refuse(why));
    }
    let length = range.end.checked_sub(range.start).filter(|length| (1..=MOST).contains(length));
    let length = length.ok_or_else(|| refuse("it copies from 1 byte to 5 GiB"))?;
    let length = usize::try_from(length).map_err(|_| refuse("the range is too long for this machine"))?;
    if !ids::is_tag(pin.as_str()) {
        return Err(Error::new(ErrorKind::Changed, &from, "its pin is not of this store"));
    }
    let path = bucket.object(at)?;
    let Upload { id, .. } = of_part(at, upload, part)?;
    let source = Source { from: &from, range: &range, tag: pin.as_str() };
    let target = Target { path: &path, upload: &id, part: part.number };
    bucket.log_in(at).await?;
    if !trial::understands(bucket, at, source).await? {
        return Err(refuse("it takes a copy for a part without bytes"));
    }
    let failed = match bucket.server_copy.ask(source, target).await? {
        Said::Copied(tag) => {
            if bucket.second_look {
                look_again(bucket, &from, &pin).await?;
            }
            return Ok(ids::part(length, &tag));
        }
        Said::Nothing => return Err(refuse("its answer holds no ETag")),
        Said::No(answer) => answer,
    };
    // A 404 may be about the upload or about the object, and a signature that is refused may be wrong in every request or in this
    // one alone. A request that is not about the object tells.
    let verdict = match asks(&failed) {
        false => judge(&failed, None),
        true => match in_progress::exists(bucket, at, &path, &id).await {
            Ok(exists) => judge(&failed, Some(Ok(exists))),
            Err(error) => judge(&failed, Some(Err(error.kind()))),
        },
    };
    Err(match verdict {
        Verdict::Told => failure::of(&from, DOING, Outcome::Answer(failed)),
        Verdict::Refused => Error::new(ErrorKind::Unsupported, &from, DOING).with_source(failed),
        Verdict::Gone => gone(at, upload).with_source(failed),
    })
}

/// Looks at an object that was copied from, as a read does: a store may ignore the condition, or hold one version to it and copy
/// the next.
async fn look_again(bucket: &Bucket, from: &Location, pin: &Pin) -> Result<()> {
    let now = bucket.call(from, "cannot look it up again", bucket.server_copy.version(from)).await?.unwrap_or_default();
    match now == pin.as_str() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Changed, from, format!("was {pin} and is now {now}"))),
    }
}
