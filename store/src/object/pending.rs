//! The requests that look uploads in progress up. The client does not offer them, so they are made here and signed with its
//! means.

use std::time::Duration;

use http::Method;
use http::header::AUTHORIZATION;
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::gcp::GcpCredentialProvider;
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};

use super::failure;
use super::wire::Seen;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// How long a signed address is good for.
const SIGNED: Duration = Duration::from_secs(300);

/// How a store tells of uploads in progress.
pub(super) enum Pending {
    /// By S3's requests, signed in the address.
    S3 { signer: AmazonS3, http: HttpClient },
    /// By the same requests with a bearer token; the address is that of the bucket.
    Google { bucket: String, credentials: Option<GcpCredentialProvider>, http: HttpClient },
    /// Not at all: see [`marker`](super::marker).
    Marked,
}

impl Pending {
    /// The text that a GET with these parameters returns. They are sorted by name.
    pub(super) async fn get(&self, at: &Location, path: &Path, query: &[(&str, &str)]) -> Result<String> {
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

/// A text as a part of an address.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
