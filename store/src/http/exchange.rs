//! One question and its answer, through redirects.
//!
//! Redirects are followed here and not by the client, because what they may do is ours to say: at most ten, never from
//! https to http, and only to addresses within the client's [reach](super::reach). A token goes only to the origin
//! (scheme, host, port) that it was given for. Once a redirect has left that origin the token stays at home, also if the
//! chain comes back.

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use reqwest::{Response, Url};

use super::client::{Client, chain};
use super::reach::{NotPublic, refused};
use super::token::Token;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

const MAX_REDIRECTS: usize = 10;

/// How far redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// To any host.
    Everywhere,
    /// Within the origin; the redirect that leaves it is the answer.
    WithinOrigin,
}

/// What is asked.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// What an error names.
    pub at: &'a Location,
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub token: Option<&'a Token>,
    pub follow: Follow,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The last response.
    pub response: Response,
    /// The headers of the response that redirected to another origin, if one did.
    pub border: Option<HeaderMap>,
}

impl Answer {
    /// The headers with which the origin answered, be it the object or a redirect to it.
    pub fn of_origin(&self) -> &HeaderMap {
        self.border.as_ref().unwrap_or_else(|| self.response.headers())
    }
}

/// Asks. Any status is an answer; errors are of the connection, or of a redirect that is not followed.
pub(crate) async fn ask(client: &Client, question: Question<'_>) -> Result<Answer> {
    let Question { at, method, mut url, mut headers, token, follow } = question;
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let mut border: Option<HeaderMap> = None;
    for _ in 0..=MAX_REDIRECTS {
        let mut request = client.toward(at, &url)?.request(method.clone(), url.clone()).headers(headers.clone());
        if let (Some(token), None) = (token, &border) {
            request = request.header(AUTHORIZATION, token.header());
        }
        let response = match tokio::time::timeout(client.timeouts.answer, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => return Err(broken(at, "no answer", e)),
            Err(_) => {
                let message = format!("no answer within {} s", client.timeouts.answer.as_secs_f32());
                return Err(Error::new(ErrorKind::Transient, at, message));
            }
        };
        let Some(next) = next(at, &url, &response)? else {
            check_encoding(at, &response)?;
            return Ok(Answer { response, border });
        };
        if next.origin() != url.origin() {
            if follow == Follow::WithinOrigin {
                return Ok(Answer { response, border });
            }
            border.get_or_insert_with(|| response.headers().clone());
        }
        url = next;
    }
    Err(Error::new(ErrorKind::Permanent, at, format!("is redirected more than {MAX_REDIRECTS} times")))
}

/// Where a response redirects to.
pub(super) fn next(at: &Location, url: &Url, response: &Response) -> Result<Option<Url>> {
    let moved = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let Some(target) = response.headers().get(LOCATION).filter(|_| moved) else { return Ok(None) };
    let refuse = |message: &str| Err(Error::new(ErrorKind::Permanent, at, message));
    let Some(mut next) = target.to_str().ok().and_then(|target| url.join(target).ok()) else {
        return refuse("is redirected to what is no address");
    };
    match (url.scheme(), next.scheme()) {
        (_, "https") | ("http", "http") => {}
        ("https", "http") => return refuse("is redirected from https to http, which is not followed"),
        _ => return refuse("is redirected to neither http nor https"),
    }
    // An address with a user would be sent as credentials.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    next.set_fragment(None);
    Ok(Some(next))
}

/// Offsets count the bytes of the object, so it must come as it is.
fn check_encoding(at: &Location, response: &Response) -> Result<()> {
    match response.headers().get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let message = format!("comes with the content encoding {encoding:?}, although none was asked for");
            Err(Error::new(ErrorKind::Unsupported, at, message))
        }
        _ => Ok(()),
    }
}

/// A connection that did not stand, or broke.
pub(crate) fn broken(at: &Location, message: impl Into<String>, error: reqwest::Error) -> Error {
    if let Some(why) = not_public(&error) {
        return refused(at, &format!("leads to a host that may not be asked: {why}"));
    }
    let kind = if error.is_builder() { ErrorKind::Permanent } else { ErrorKind::Transient };
    Error::new(kind, at, message).with_source(chain(&error.without_url()))
}

fn not_public(error: &reqwest::Error) -> Option<&NotPublic> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
