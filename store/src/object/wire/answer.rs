//! What a store says when it says no: status, error code and message, of S3, Azure and Google alike.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use http_body::Body;
use object_store::client::HttpResponseBody;

use super::broken::Broken;

/// The longest answer that is kept in memory. What is longer is no error message, and no list of parts either.
const LIMIT: usize = 4 << 20;
/// How much of a message is worth showing.
const SHOWN: usize = 300;

/// A refusal. Shown as status, code and message, which hold no secret: of a signature that does not match, stores also
/// return what was signed, and that is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 200 where an error hides behind it.
    pub(crate) status: StatusCode,
    /// `SlowDown`, `NoSuchUpload`, `InvalidBlockList`.
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    /// How long to stay away.
    pub(crate) retry_after: Option<Duration>,
    /// Where S3 says that the bucket is.
    pub(crate) region: Option<String>,
}

impl Answer {
    /// The refusal in an answer, if it is one.
    pub(super) fn read(parts: &Parts, body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).unwrap_or_default();
        if parts.status.is_success() && !text.contains("<Error>") {
            return None;
        }
        let code = header(&parts.headers, "x-ms-error-code")
            .or_else(|| element(text, "Code"))
            .or_else(|| json(text, "reason"));
        let message = element(text, "Message").or_else(|| json(text, "message"));
        Some(Self {
            status: parts.status,
            code: code.filter(|code| code.len() <= 100),
            message: message.map(|message| shorten(&message)),
            retry_after: header(&parts.headers, "retry-after").and_then(|s| s.parse().ok()).map(Duration::from_secs),
            region: header(&parts.headers, "x-amz-bucket-region").or_else(|| element(text, "Region")),
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status.as_u16())?;
        match &self.code {
            Some(code) => write!(f, " {code}")?,
            None => write!(f, " {}", self.status.canonical_reason().unwrap_or("of no name"))?,
        }
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Answer {}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// The text of the first element of a name. Codes and messages are flat, and nothing else of the document matters.
pub(crate) fn element(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once('<')?;
    let plain = value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    Some(plain.replace("&#39;", "'").replace("&#34;", "\"").replace("&amp;", "&"))
}

/// A text of Google's error document, which is of JSON where the request was.
fn json(text: &str, name: &str) -> Option<String> {
    let document: serde_json::Value = serde_json::from_str(text).ok()?;
    let error = document.get("error")?;
    let found = error.get("errors").and_then(|errors| errors.get(0)?.get(name)).or_else(|| error.get(name))?;
    found.as_str().map(str::to_owned)
}

/// One line of at most [`SHOWN`] characters.
fn shorten(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A whole body that should be short.
pub(super) async fn collect(mut body: HttpResponseBody) -> Result<Bytes, Broken> {
    let mut all = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|e| Broken::for_now(e.to_string()))?;
        if let Ok(bytes) = frame.into_data() {
            if all.len() + bytes.len() > LIMIT {
                return Err(Broken::for_good(format!("an answer of more than {LIMIT} bytes")));
            }
            all.extend_from_slice(&bytes);
        }
    }
    Ok(all.freeze())
}
