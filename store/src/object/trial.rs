//! Whether a store knows copies at all, tried in an upload of its own.
//!
//! A store that does not know the header takes a copy for a part without bytes, and says that it was put. rclone 1.75 then refuses
//! the right bytes under the same number. So the first copy does not go to the upload that needs it.

use super::bucket::Bucket;
use super::failure;
use super::server_copy::{Said, ServerCopy, Source, Target};
use super::verdict::is_of_credentials;
use super::wire::{Outcome, Seen};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::token::token;

/// The most bytes of a trial: a store may refuse less than its smallest part.
const MOST: u64 = 5 << 20;

/// Whether the store of `at` knows copies. Only the first call asks. A store that refuses a copy by name knows them.
pub(super) async fn understands(bucket: &Bucket, at: &Location, source: Source<'_>) -> Result<bool> {
    let ServerCopy::S3 { known, .. } = &bucket.server_copy else { return Ok(false) };
    known.get_or_try_init(|| ask(bucket, at, source)).await.copied()
}

/// A policy may allow the upload that needs the copy, and not this one.
fn not_begun(trial: &Location, error: object_store::Error, seen: Option<Outcome>) -> Error {
    const DOING: &str = "cannot begin an upload";
    match seen {
        Some(Outcome::Answer(answer))
            if failure::kind(answer.status, answer.code.as_deref()) == ErrorKind::Permission
                && !is_of_credentials(&answer) =>
        {
            Error::new(ErrorKind::Unsupported, trial, DOING).with_source(answer)
        }
        seen => failure::error(trial, DOING, error, seen),
    }
}

async fn ask(bucket: &Bucket, at: &Location, source: Source<'_>) -> Result<bool> {
    let beside = at.parent().ok_or_else(|| Error::new(ErrorKind::Permanent, at, "names no object"))?;
    let trial = beside.join(&format!(".shardfuse/trial-{}", token()))?;
    let path = bucket.object(&trial)?;
    let seen = Seen::default();
    let upload = match seen.watch(bucket.client.create_multipart(&path)).await {
        Ok(upload) => upload,
        Err(e) => return Err(not_begun(&trial, e, seen.take())),
    };
    let range = source.range.start..source.range.end.min(source.range.start.saturating_add(MOST));
    let target = Target { path: &path, upload: &upload, part: 0 };
    let said = bucket.server_copy.ask(Source { range: &range, ..source }, target).await;
    if let Err(error) =
        bucket.call(&trial, "cannot drop an upload", bucket.client.abort_multipart(&path, &upload)).await
    {
        tracing::warn!(location = %trial, error = %error.chain(), "the upload of a trial is left behind");
    }
    match said? {
        Said::Nothing => {
            tracing::debug!(location = %at, "its store knows no copies");
            Ok(false)
        }
        Said::Copied(_) | Said::No(_) => Ok(true),
    }
}
