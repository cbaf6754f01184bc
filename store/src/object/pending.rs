//! Uploads in progress, looked up. The client cannot, so these requests are made here and signed with its means.

use std::time::Duration;

use http::Method;
use http::header::AUTHORIZATION;
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::gcp::GcpCredentialProvider;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};

use super::wire::{Seen, element};
use super::{Bucket, Login, failure, marker};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// How long a signed address is good for.
const SIGNED: Duration = Duration::from_secs(300);

/// How often a listing of uploads is asked for again after those that it named were dropped.
const ROUNDS: usize = 100;

/// How a store tells of uploads in progress.
pub(super) enum Pending {
    /// By S3's requests, signed in the address.
    S3 { signer: AmazonS3, http: HttpClient },
    /// By the same requests with a bearer token; the address is that of the bucket.
    Google { bucket: String, credentials: Option<GcpCredentialProvider>, http: HttpClient },
    /// Not at all: see [`marker`].
    Marked,
}

impl Pending {
    /// Whether an upload goes on.
    pub(super) async fn exists(&self, bucket: &Bucket, at: &Location, path: &Path, id: &str) -> Result<bool> {
        if matches!(self, Self::Marked) {
            return marker::exists(bucket, at, id).await;
        }
        bucket.log_in(at).await?;
        match self.get(at, path, &[("uploadId", id), ("max-parts", "1")]).await {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.kind(), ErrorKind::NoSuchUpload | ErrorKind::NotFound) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Drops every upload below a folder. What cannot be dropped is left, with a warning: listing uploads needs a
    /// permission of its own, and objects can be removed without it.
    pub(super) async fn abort_all(&self, bucket: &Bucket, dir: &Location, inside: &Path) {
        if matches!(self, Self::Marked) || matches!(bucket.login, Login::Anonymous) {
            return;
        }
        if let Err(error) = self.try_abort_all(bucket, dir, inside).await {
            tracing::warn!(location = %dir, error = %error.chain(), "uploads in progress below it are left behind");
        }
    }

    async fn try_abort_all(&self, bucket: &Bucket, dir: &Location, inside: &Path) -> Result<()> {
        let prefix = format!("{inside}/");
        for _ in 0..ROUNDS {
            bucket.log_in(dir).await?;
            let listed = self.get(dir, &Path::ROOT, &[("prefix", &prefix), ("uploads", "")]).await?;
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

    /// The text that a GET with these parameters returns. They are sorted by name.
    async fn get(&self, at: &Location, path: &Path, query: &[(&str, &str)]) -> Result<String> {
        const DOING: &str = "cannot look up its uploads";
        let failed = |e| failure::error(at, DOING, e, None);
        let (url, token, http) = match self {
            Self::S3 { signer, http } => {
                let options = SignedUrlOptions::default().with_query(query.iter().copied());
                let url = signer.signed_url_opts(Method::GET, path, SIGNED, &options).await.map_err(failed)?;
                (url.to_string(), None, http)
            }
            Self::Google { bucket, credentials, http } => {
                let query: Vec<String> =
                    query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
                let token = match credentials {
                    Some(credentials) => Some(credentials.get_credential().await.map_err(failed)?),
                    None => None,
                };
                let key: Vec<String> = path.as_ref().split('/').map(encode).collect();
                (format!("{bucket}/{}?{}", key.join("/"), query.join("&")), token, http)
            }
            Self::Marked => return Err(Error::new(ErrorKind::Unsupported, at, DOING)),
        };
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url.parse().map_err(|_| Error::new(ErrorKind::Permanent, at, DOING))?;
        if let Some(token) = token {
            let value = format!("Bearer {}", token.bearer).parse();
            let value = value.map_err(|_| Error::new(ErrorKind::Permission, at, "its access token is no header"))?;
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let seen = Seen::default();
        let answer = seen
            .watch(async {
                let response = http.execute(request).await?;
                let status = response.status();
                response.into_body().bytes().await.map(|bytes| (status, bytes))
            })
            .await;
        match (answer, seen.take()) {
            (Ok((status, bytes)), _) if status.is_success() => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            (_, Some(outcome)) => Err(failure::of(at, DOING, outcome)),
            _ => Err(Error::new(ErrorKind::Transient, at, DOING)),
        }
    }
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

pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
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
