//! Deletes with a condition, which the client does not offer: these requests are made here and signed with its means.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, IF_MATCH};
use http::{HeaderName, Method};
use object_store::ObjectStoreExt;
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::gcp::GcpCredentialProvider;
use object_store::path::Path;
use object_store::signer::Signer;

use super::wire::Seen;
use super::{Bucket, failure};
use crate::error::{Error, ErrorKind, Result};
use crate::id::Pin;
use crate::location::Location;

/// How long a signed address is good for.
const SIGNED: Duration = Duration::from_secs(300);
const DOING: &str = "cannot remove it";

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
    match bucket.deletes.send(bucket, at, &path, &tag, found.version.as_deref()).await {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        // A key that signs no address, or a store that knows no such request.
        Err(e) if e.kind() == ErrorKind::Unsupported => {
            tracing::debug!(location = %at, error = %e.chain(), "removed without a condition");
            super::write::delete(bucket, at).await
        }
        Err(e) => Err(e),
    }
}

impl Deletes {
    async fn send(
        &self,
        bucket: &Bucket,
        at: &Location,
        path: &Path,
        tag: &str,
        generation: Option<&str>,
    ) -> Result<()> {
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
                let key: Vec<String> = path.as_ref().split('/').map(super::pending::encode).collect();
                (format!("{bucket}/{}", key.join("/")), http)
            }
        };
        *request.uri_mut() = url.parse().map_err(|_| unsupported("its address is no URL"))?;
        bucket.log_in(at).await?;
        let seen = Seen::default();
        let answer = seen.watch(http.execute(request)).await;
        match (answer, seen.take()) {
            (Ok(response), _) if response.status().is_success() => Ok(()),
            (_, Some(outcome)) => Err(failure::of(at, DOING, outcome)),
            _ => Err(Error::new(ErrorKind::Transient, at, DOING)),
        }
    }
}
