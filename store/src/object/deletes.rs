//! The requests that remove one version of an object. The client does not offer them, so they are made here and signed with
//! its means.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, IF_MATCH};
use http::{HeaderName, Method};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::gcp::GcpCredentialProvider;
use object_store::path::Path;
use object_store::signer::Signer;

use super::failure;
use super::pending::encode;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// How long a signed address is good for.
const SIGNED: Duration = Duration::from_secs(300);
/// What a failure says was attempted.
pub(super) const DOING: &str = "cannot remove it";

/// How a store is asked to remove one version of an object.
pub(super) enum Deletes {
    /// By an address that is signed for this one request; the condition need not be signed.
    Signed {
        /// Signs it.
        signer: Arc<dyn Signer>,
        /// Sends it.
        http: HttpClient,
    },
    /// With a bearer token and the generation; the address is that of the bucket.
    Google {
        /// The bucket's address.
        bucket: String,
        /// Where the token comes from; none for an anonymous client.
        credentials: Option<GcpCredentialProvider>,
        /// Sends it.
        http: HttpClient,
    },
}

impl fmt::Debug for Deletes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signed { .. } => "Signed",
            Self::Google { .. } => "Google",
        })
    }
}

impl Deletes {
    /// The request to remove the version of a tag and generation, and what sends it. `Unsupported` if this store or its
    /// credentials have no such request.
    pub(super) async fn request(
        &self,
        at: &Location,
        path: &Path,
        tag: &str,
        generation: Option<&str>,
    ) -> Result<(HttpRequest, &HttpClient)> {
        let unsupported = |what: &str| Error::new(ErrorKind::Unsupported, at, format!("{DOING}: {what}"));
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::DELETE;
        let (url, http) = match self {
            Self::Signed { signer, http } => {
                let url = signer.signed_url(Method::DELETE, path, SIGNED).await;
                let url = url.map_err(|e| unsupported("its key signs no address").with_source(e.to_string()))?;
                let tag = tag.parse().map_err(|_| unsupported("its ETag is no header"))?;
                request.headers_mut().insert(IF_MATCH, tag);
                (url.to_string(), http)
            }
            Self::Google { bucket, credentials, http } => {
                let generation = generation.and_then(|generation| generation.parse().ok());
                let generation = generation.ok_or_else(|| unsupported("its store tells no generation"))?;
                request.headers_mut().insert(HeaderName::from_static("x-goog-if-generation-match"), generation);
                if let Some(credentials) = credentials {
                    let token = credentials.get_credential().await.map_err(|e| failure::error(at, DOING, e, None))?;
                    let token = format!("Bearer {}", token.bearer).parse();
                    let token = token.map_err(|_| unsupported("its access token is no header"))?;
                    request.headers_mut().insert(AUTHORIZATION, token);
                }
                let key: Vec<String> = path.as_ref().split('/').map(encode).collect();
                (format!("{bucket}/{}", key.join("/")), http)
            }
        };
        *request.uri_mut() = url.parse().map_err(|_| unsupported("its address is no URL"))?;
        Ok((request, http))
    }
}
