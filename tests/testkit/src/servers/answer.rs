//! The answer to a GET or HEAD of some bytes, with or without a range.

use axum::http::{HeaderMap, Method, StatusCode, header};

/// Status, headers and body of an answer; the body is also there for HEAD, which leaves it out when sent.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn status(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: format!("{status}\n").into() }
    }

    /// The object, or the range of it that the request names.
    pub fn object(method: &Method, request: &HeaderMap, bytes: &[u8], ranges: bool) -> Self {
        let mut headers = HeaderMap::new();
        let range = request.get(header::RANGE).filter(|_| ranges && method == Method::GET);
        let Some(range) = range else {
            return Self { status: StatusCode::OK, headers, body: bytes.to_vec() };
        };
        let (first, last) = range.to_str().unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        if first >= bytes.len() {
            headers.insert(header::CONTENT_RANGE, format!("bytes */{}", bytes.len()).parse().unwrap());
            return Self { status: StatusCode::RANGE_NOT_SATISFIABLE, headers, body: Vec::new() };
        }
        let behind = (last + 1).min(bytes.len());
        let text = format!("bytes {first}-{}/{}", behind - 1, bytes.len());
        headers.insert(header::CONTENT_RANGE, text.parse().unwrap());
        Self { status: StatusCode::PARTIAL_CONTENT, headers, body: bytes[first..behind].to_vec() }
    }

    pub fn with(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        self.headers.insert(name, value.as_ref().parse().unwrap());
        self
    }
}
