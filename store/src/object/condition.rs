//! Deletes with a condition.

use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::bucket::Bucket;
use super::deletes::DOING;
use super::wire::Seen;
use super::{failure, write};
use crate::error::{Error, ErrorKind, Result};
use crate::id::Pin;
use crate::location::Location;

/// Looks first: a store that ignores the condition then removes another version only if it came within this call.
pub(super) async fn delete_if(bucket: &Bucket, at: &Location, pin: &Pin) -> Result<()> {
    bucket.refuse_anonymous(at)?;
    let path = bucket.object(at)?;
    let found = match bucket.call(at, "cannot look it up", bucket.client.head(&path)).await {
        Ok(found) => found,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let tag = found.e_tag.unwrap_or_default();
    if tag != pin.as_str() {
        return Err(Error::new(ErrorKind::Changed, at, format!("was {pin} and is now {tag}, and stays")));
    }
    match send(bucket, at, &path, &tag, found.version.as_deref()).await {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        // A key that signs no address, or a store that knows no such request.
        Err(e) if e.kind() == ErrorKind::Unsupported => {
            tracing::debug!(location = %at, error = %e.chain(), "removed without a condition");
            write::delete(bucket, at).await
        }
        Err(e) => Err(e),
    }
}

async fn send(bucket: &Bucket, at: &Location, path: &Path, tag: &str, generation: Option<&str>) -> Result<()> {
    let (request, http) = bucket.deletes.request(at, path, tag, generation).await?;
    bucket.log_in(at).await?;
    let seen = Seen::default();
    let answer = seen.watch(http.execute(request)).await;
    match (answer, seen.take()) {
        (Ok(response), _) if response.status().is_success() => Ok(()),
        (_, Some(outcome)) => Err(failure::of(at, DOING, outcome)),
        _ => Err(Error::new(ErrorKind::Transient, at, DOING)),
    }
}
