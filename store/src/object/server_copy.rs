//! The request that copies a range of an object into a part. The client does not offer it, so it is made here and signed with its
//! means.

use std::ops::Range;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use object_store::ObjectStoreExt;
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use tokio::sync::OnceCell;

use super::pending::encode;
use super::service::Service;
use super::wire::{Answer, Outcome, Seen, element};
use super::{failure, ids};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// How long a signed address is good for.
const SIGNED: Duration = Duration::from_secs(300);
/// What a failure says was attempted.
pub(super) const DOING: &str = "cannot be copied into a part by its store";

/// Makes the client of a bucket by its name.
pub(super) type Clients = Box<dyn Fn(&str) -> object_store::Result<AmazonS3> + Send + Sync>;

/// How a store is asked for a copy.
pub(super) enum ServerCopy {
    /// By S3's `UploadPartCopy`, signed in the address.
    S3 {
        /// Signs it.
        signer: AmazonS3,
        /// Sends it.
        http: HttpClient,
        /// What it may copy from.
        service: Service,
        /// Makes the client of another bucket of the service.
        other: Clients,
        /// Whether the service knows copies, once that is known.
        known: OnceCell<bool>,
    },
    /// Not at all.
    None {
        /// Why, said of a location.
        why: &'static str,
    },
}

/// What a store says to a copy.
pub(super) enum Said {
    /// It was made, and the part has this ETag.
    Copied(String),
    /// Success, and nothing of a copy.
    Nothing,
    /// A refusal.
    No(Answer),
}

/// A range of one version of an object.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) from: &'a Location,
    pub(super) range: &'a Range<u64>,
    pub(super) tag: &'a str,
}

/// Where a part belongs.
pub(super) struct Target<'a> {
    pub(super) path: &'a Path,
    /// The store's id of the upload.
    pub(super) upload: &'a str,
    /// Counted from 0.
    pub(super) part: u32,
}

impl ServerCopy {
    /// The version of an object that was copied from.
    pub(super) async fn version(&self, from: &Location) -> object_store::Result<Option<String>> {
        let Self::S3 { other, .. } = self else {
            return Err(object_store::Error::NotImplemented {
                operation: DOING.to_owned(),
                implementer: from.scheme().to_string(),
            });
        };
        Ok(other(from.authority())?.head(&Path::parse(from.key())?).await?.e_tag)
    }

    /// Asks for a copy. An error is of the line, or of a store that is busy.
    pub(super) async fn ask(&self, source: Source<'_>, target: Target<'_>) -> Result<Said> {
        let from = source.from;
        let (request, http) = self.request(source, target).await?;
        let seen = Seen::default();
        let answer = seen
            .watch(async {
                let response = http.execute(request).await?;
                let status = response.status();
                response.into_body().bytes().await.map(|bytes| (status, bytes))
            })
            .await;
        match (answer, seen.take()) {
            (Ok((status, bytes)), None) if status.is_success() => {
                let tag = element(&String::from_utf8_lossy(&bytes), "ETag").filter(|tag| ids::is_tag(tag));
                Ok(tag.map_or(Said::Nothing, Said::Copied))
            }
            (_, Some(Outcome::Answer(answer)))
                if !failure::kind(answer.status, answer.code.as_deref()).is_transient() =>
            {
                Ok(Said::No(answer))
            }
            (_, Some(outcome)) => Err(failure::of(from, DOING, outcome)),
            _ => Err(Error::new(ErrorKind::Transient, from, DOING)),
        }
    }

    /// The request, and what sends it.
    async fn request(&self, source: Source<'_>, target: Target<'_>) -> Result<(HttpRequest, &HttpClient)> {
        let Source { from, range, tag } = source;
        let refuse = |why: &str| Error::new(ErrorKind::Unsupported, from, format!("{DOING}: {why}"));
        let Self::S3 { signer, http, .. } = self else { return Err(refuse("it has no such request")) };
        let key: Vec<String> = from.key().split('/').map(encode).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-amz-copy-source", format!("/{}/{}", from.authority(), key.join("/"))),
            ("x-amz-copy-source-range", format!("bytes={}-{}", range.start, range.end.saturating_sub(1))),
            ("x-amz-copy-source-if-match", tag.to_owned()),
        ] {
            let value = value.parse().map_err(|_| refuse("its name or its version is no header"))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let number = (target.part + 1).to_string();
        let options = headers.iter().fold(
            SignedUrlOptions::default().with_query([("partNumber", number.as_str()), ("uploadId", target.upload)]),
            |options, (name, value)| options.with_signed_header(name.clone(), value.clone()),
        );
        let url = signer.signed_url_opts(Method::PUT, target.path, SIGNED, &options).await;
        let url = url.map_err(|e| failure::error(from, DOING, e, None))?;
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = url.to_string().parse().map_err(|_| refuse("its address is no URL"))?;
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        *request.headers_mut() = headers;
        Ok((request, http))
    }
}
