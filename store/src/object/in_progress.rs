//! Uploads in progress, looked up and dropped, on stores that tell of them.

use object_store::path::Path;

use super::bucket::{Bucket, Login};
use super::pending::Pending;
use super::wire::element;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// How often a listing of uploads is asked for again after those that it named were dropped.
const ROUNDS: usize = 100;

/// Whether an upload goes on, on a store that tells of uploads.
pub(super) async fn exists(bucket: &Bucket, at: &Location, path: &Path, id: &str) -> Result<bool> {
    bucket.log_in(at).await?;
    match bucket.pending.get(at, path, &[("uploadId", id), ("max-parts", "1")]).await {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), ErrorKind::NoSuchUpload | ErrorKind::NotFound) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Drops every upload below a folder. What cannot be dropped is left, with a warning: listing uploads needs a
/// permission of its own, and objects can be removed without it.
pub(super) async fn abort_all(bucket: &Bucket, dir: &Location, inside: &Path) {
    if matches!(bucket.pending, Pending::Marked) || matches!(bucket.login, Login::Anonymous) {
        return;
    }
    if let Err(error) = try_abort_all(bucket, dir, inside).await {
        tracing::warn!(location = %dir, error = %error.chain(), "uploads in progress below it are left behind");
    }
}

async fn try_abort_all(bucket: &Bucket, dir: &Location, inside: &Path) -> Result<()> {
    let prefix = format!("{inside}/");
    for _ in 0..ROUNDS {
        bucket.log_in(dir).await?;
        let listed = bucket.pending.get(dir, &Path::ROOT, &[("prefix", &prefix), ("uploads", "")]).await?;
        let uploads = uploads(&listed, &prefix);
        if uploads.is_empty() {
            return Ok(());
        }
        for (key, id) in uploads {
            let Ok(path) = Path::parse(&key) else { continue };
            tracing::info!(location = %dir, key, "an upload in progress is dropped");
            bucket.call(dir, "cannot drop an upload", bucket.client.abort_multipart(&path, &id)).await?;
        }
    }
    Err(Error::new(ErrorKind::Transient, dir, "uploads are begun below it again and again"))
}

/// Keys and ids of a listing. A store that ignores the prefix must not make us drop what is not below it.
fn uploads(listing: &str, prefix: &str) -> Vec<(String, String)> {
    listing
        .split("<Upload>")
        .skip(1)
        .filter_map(|upload| Some((element(upload, "Key")?, element(upload, "UploadId")?)))
        .filter(|(key, _)| key.starts_with(prefix))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uploads_below_the_prefix_are_taken() {
        let listing = "<ListMultipartUploadsResult><Prefix>out/</Prefix>\
            <Upload><Key>out/a&amp;b</Key><UploadId>1</UploadId></Upload>\
            <Upload><Initiator><ID>x</ID></Initiator><UploadId>2</UploadId><Key>other/x</Key></Upload>\
            <Upload><Key>out</Key><UploadId>3</UploadId></Upload></ListMultipartUploadsResult>";
        assert_eq!(uploads(listing, "out/"), [("out/a&b".to_owned(), "1".to_owned())]);
    }
}
