//! Parts that the store copies from another object.
//!
//! S3 copies a range of one object into a part, held to an ETag, if the credentials of the upload may read that object. Whether they
//! may, only the store knows. So every refusal of the copy is `Unsupported`, and the caller puts the bytes instead; if the
//! credentials are no good at all, that fails in its turn.

use super::bucket::{Bucket, Login};
use super::ids::{self, Upload};
use super::server_copy::{DOING, ServerCopy, Source, Target};
use super::upload::{gone, of_part, put_part};
use super::wire::{Answer, Outcome, Seen, element};
use super::{failure, in_progress};
use crate::chunk::{Chunk, Copies};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, UploadId};
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
        (ServerCopy::None, _) => Some("is read and put: only S3 is asked to copy"),
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
    let (request, http) = bucket.server_copy.request(source, target).await?;
    let seen = Seen::default();
    let answer = seen
        .watch(async {
            let response = http.execute(request).await?;
            let status = response.status();
            response.into_body().bytes().await.map(|bytes| (status, bytes))
        })
        .await;
    let failed = match (answer, seen.take()) {
        (Ok((status, bytes)), None) if status.is_success() => {
            let tag = element(&String::from_utf8_lossy(&bytes), "ETag").filter(|tag| ids::is_tag(tag));
            return tag.map(|tag| ids::part(length, &tag)).ok_or_else(|| refuse("its answer holds no ETag"));
        }
        (_, Some(Outcome::Answer(answer))) => answer,
        (_, Some(broken)) => return Err(failure::of(&from, DOING, broken)),
        _ => return Err(Error::new(ErrorKind::Transient, &from, DOING)),
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

/// What a refusal comes to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// What the store's words say, as with every other request.
    Told,
    /// The store does not do this copy.
    Refused,
    /// There is no such upload.
    Gone,
}

/// Whether a look at the upload is needed to tell what a refusal is about.
fn asks(answer: &Answer) -> bool {
    failure::kind(answer.status, answer.code.as_deref()) == ErrorKind::NotFound || is_signature(answer)
}

fn is_signature(answer: &Answer) -> bool {
    answer.code.as_deref() == Some("SignatureDoesNotMatch")
}

/// Judges a refusal. `upload` is what a look at the upload found, where one was needed.
fn judge(answer: &Answer, upload: Option<Result<bool, ErrorKind>>) -> Verdict {
    let code = answer.code.as_deref().unwrap_or_default();
    match failure::kind(answer.status, answer.code.as_deref()) {
        ErrorKind::NoSuchUpload => Verdict::Gone,
        ErrorKind::NotFound => match upload {
            Some(Ok(false)) => Verdict::Gone,
            Some(Ok(true)) => Verdict::Told,
            _ if code == "NoSuchKey" => Verdict::Told,
            _ => Verdict::Refused,
        },
        // The credentials are wrong, whatever they are used for.
        ErrorKind::Permission if is_signature(answer) => match upload {
            Some(Err(ErrorKind::Permission)) => Verdict::Told,
            _ => Verdict::Refused,
        },
        ErrorKind::Permission => match code {
            "InvalidAccessKeyId" | "ExpiredToken" | "InvalidToken" | "RequestTimeTooSkewed" => Verdict::Told,
            _ => Verdict::Refused,
        },
        ErrorKind::Changed | ErrorKind::ShortRead | ErrorKind::Transient | ErrorKind::NoSpace | ErrorKind::NoBucket => {
            Verdict::Told
        }
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_refusal_of_the_copy_is_told_from_everything_else() {
        let (there, gone, denied) = (Some(Ok(true)), Some(Ok(false)), Some(Err(ErrorKind::Permission)));
        for (status, code, upload, expected) in [
            (412, "PreconditionFailed", None, Verdict::Told),
            (416, "InvalidRange", None, Verdict::Told),
            (503, "SlowDown", None, Verdict::Told),
            (500, "", None, Verdict::Told),
            (200, "InternalError", None, Verdict::Told),
            (404, "NoSuchUpload", None, Verdict::Gone),
            (404, "NoSuchKey", there, Verdict::Told),
            (404, "NoSuchKey", denied, Verdict::Told),
            (404, "NoSuchKey", gone, Verdict::Gone),
            (404, "", there, Verdict::Told),
            (404, "", gone, Verdict::Gone),
            (404, "", denied, Verdict::Refused),
            (403, "AccessDenied", None, Verdict::Refused),
            (403, "", None, Verdict::Refused),
            (400, "KMS.DisabledException", None, Verdict::Refused),
            (403, "InvalidObjectState", None, Verdict::Refused),
            (403, "InvalidAccessKeyId", None, Verdict::Told),
            (400, "ExpiredToken", None, Verdict::Told),
            (403, "SignatureDoesNotMatch", denied, Verdict::Told),
            (403, "SignatureDoesNotMatch", there, Verdict::Refused),
            (400, "InvalidRequest", None, Verdict::Refused),
            (400, "InvalidArgument", None, Verdict::Refused),
            (405, "MethodNotAllowed", None, Verdict::Refused),
            (501, "NotImplemented", None, Verdict::Refused),
            (200, "AccessDenied", None, Verdict::Refused),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let code = Some(code.to_owned()).filter(|code| !code.is_empty());
            let answer = Answer { status, code, ..Answer::default() };
            assert_eq!(asks(&answer), upload.is_some(), "{answer}");
            assert_eq!(judge(&answer, upload), expected, "{answer}");
        }
    }
}
