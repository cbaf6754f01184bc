//! The request that copies a range of an object into a part. The client does not offer it, so it is made here and signed with its
//! means.

use std::ops::Range;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use object_store::aws::AmazonS3;
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};

use super::failure;
use super::pending::encode;
use super::service::Service;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// How long a signed address is good for.
const SIGNED: Duration = Duration::from_secs(300);
/// What a failure says was attempted.
pub(super) const DOING: &str = "cannot be copied into a part by its store";

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
    },
    /// Not at all.
    None,
}

/// A range of one version of an object.
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
    /// The request, and what sends it.
    pub(super) async fn request(&self, source: Source<'_>, target: Target<'_>) -> Result<(HttpRequest, &HttpClient)> {
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
