//! Objects on a web server, `http://` and `https://`. Read only.
//!
//! **Consistency.** A pin is the strong ETag, else the date of the last change with the size, which is marked weak: a
//! rewrite of equal length within the same second goes unseen. The pin goes with every read as a condition, and every
//! answer's own headers are held against it, for servers that do not listen to conditions.
//!
//! **Ranges.** A server must answer ranges. One that sends the whole object instead is refused before its body is read,
//! unless the whole object is what was asked for.
//!
//! **Redirects** are followed, also to other hosts, but never from https to http, and no token goes with them to another
//! origin. A process that reads on behalf of others goes where its `reach` ends and no further. An error shows the address that was asked for, never the one that was redirected to, which may be signed.
//!
//! **Listing** is not possible (`Unsupported`): the protocol has none.
//!
//! **Retry.** Nothing here retries.

use async_trait::async_trait;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use reqwest::Url;

use crate::error::{Error, ErrorKind, Result};
use crate::id::Pin;
use crate::location::Location;
use crate::read_only::Readable;
use crate::store::{Entry, Meta};

pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod exchange;
pub(crate) mod reach;
pub(crate) mod span;
pub(crate) mod status;
#[cfg(test)]
mod tests;
mod token;
mod tokens;
mod version;

pub use token::Token;
pub(crate) use tokens::tokens;

use client::Client;
use exchange::{Answer, Follow, Question, ask};
use reach::Reach;
use span::Span;
use version::Version;

/// Objects on web servers. The module's documentation says what holds.
#[derive(Debug, Default)]
pub struct Web {
    client: Client,
    /// The longest prefix first.
    tokens: Vec<(Location, Option<Token>)>,
}

impl Web {
    /// A store for `http://` and `https://` locations. A token is sent for what lies at or below its location; where
    /// several do, the nearest one counts, and none is sent if that has none.
    pub fn new(mut tokens: Vec<(Location, Option<Token>)>) -> Self {
        tokens.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.path().len()));
        Self { client: Client::default(), tokens }
    }

    /// The same store, which connects to no address outside of a reach.
    pub(crate) fn within(mut self, reach: Reach) -> Self {
        self.client.reach = reach;
        self
    }

    async fn ask(&self, at: &Location, method: Method, headers: HeaderMap) -> Result<Answer> {
        let url = address(at)?;
        let token = self.tokens.iter().find(|(prefix, _)| at.is_within(prefix)).and_then(|(_, token)| token.as_ref());
        ask(&self.client, Question { at, method, url, headers, token, follow: Follow::Everywhere }).await
    }

    /// Headers and length without the object: by HEAD, and where a server does not answer that in full, by asking for
    /// the first byte.
    async fn look_up(&self, at: &Location) -> Result<(HeaderMap, u64)> {
        let answer = self.ask(at, Method::HEAD, HeaderMap::new()).await?.response;
        match answer.status() {
            status if status.is_success() => {
                if let Some(size) = span::length(answer.headers()) {
                    return Ok((answer.headers().clone(), size));
                }
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {}
            status => return Err(status::refusal(at, status, answer.headers())),
        }
        let answer = self.ask(at, Method::GET, HeaderMap::from_iter([span::ask(at, 0, 1)?])).await?.response;
        let headers = answer.headers().clone();
        match answer.status() {
            status @ (StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) => {
                let size = Span::of(at, status, &headers)?.total;
                let unknown = || Error::new(ErrorKind::Unsupported, at, "the server does not tell its length");
                Ok((headers, size.ok_or_else(unknown)?))
            }
            status => Err(status::refusal(at, status, &headers)),
        }
    }
}

#[async_trait]
impl Readable for Web {
    fn name(&self) -> &'static str {
        "http"
    }

    async fn resolve(&self, at: &Location) -> Result<Location> {
        Ok(at.clone())
    }

    async fn head(&self, at: &Location) -> Result<Meta> {
        let (headers, size) = self.look_up(at).await?;
        Ok(Meta { size, pin: Version::of(&headers, size).to_pin() })
    }

    async fn read(&self, at: &Location, offset: u64, mut buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        let version = pin.map(|pin| Version::of_pin(at, pin)).transpose()?;
        if buf.is_empty() {
            // No range is empty.
            let (headers, size) = self.look_up(at).await?;
            version.map_or(Ok(()), |version| version.check(at, &headers, Some(size)))?;
            return if offset <= size { Ok(buf) } else { Err(past_end(at, offset, size)) };
        }
        let mut headers = HeaderMap::from_iter([span::ask(at, offset, buf.len())?]);
        headers.extend(version.as_ref().and_then(Version::condition));
        let answer = self.ask(at, Method::GET, headers).await?.response;
        let status = answer.status();
        if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE) {
            return Err(status::refusal(at, status, answer.headers()));
        }
        let span = Span::of(at, status, answer.headers())?;
        match &version {
            // An error's headers describe the error, so all that a 416 tells of the object is its length.
            Some(version) if status == StatusCode::RANGE_NOT_SATISFIABLE => version.check_size(at, span.total)?,
            Some(version) => version.check(at, answer.headers(), span.total)?,
            None => {}
        }
        span.check(at, offset, buf.len())?;
        body::fill(&self.client, at, answer, &mut buf).await?;
        Ok(buf)
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        Err(Error::new(ErrorKind::Unsupported, dir, "a folder on a web server cannot be listed"))
    }
}

pub(crate) fn past_end(at: &Location, offset: u64, size: u64) -> Error {
    Error::new(ErrorKind::ShortRead, at, format!("ends at {size}, 0 bytes from {offset} were wanted"))
}

/// The address of a location.
fn address(at: &Location) -> Result<Url> {
    parse_address(at, &format!("{}://{}{}", at.scheme(), at.authority(), at.path()))
}

/// Parses an address that must lead where it says: `%2e%2e` is `..` to a server, and would leave the folder below which
/// the location was allowed.
pub(crate) fn parse_address(at: &Location, text: &str) -> Result<Url> {
    let refuse = |message: &str| Error::new(ErrorKind::Permanent, at, message);
    let path = text.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    let plain = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    if plain.split(['/', '\\']).any(|part| part == "." || part == "..") {
        return Err(refuse("an address whose path holds an encoded `.` or `..`"));
    }
    Url::parse(text).map_err(|e| refuse("is no address").with_source(e))
}
