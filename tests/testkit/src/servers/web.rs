//! A plain web server, and the ways in which one can be odd.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body as AxumBody;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response;
use futures::StreamExt;

use super::answer::Answer;
use super::files::Files;
use super::server::Server;

/// What tells one version of a file from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marks {
    /// A strong ETag and a date.
    #[default]
    Strong,
    /// A weak ETag and a date.
    Weak,
    /// A weak ETag alone.
    WeakTagOnly,
    /// A date alone.
    Date,
    None,
}

/// How bodies come. Bodies that go wrong do so after so many bytes.
#[derive(Clone, Copy, Debug, Default)]
pub enum Body {
    #[default]
    Whole,
    /// The connection is cut.
    Cut(usize),
    /// It ends in order, without a length having been told.
    Ends(usize),
    /// Nothing comes any more, and the connection stays.
    Stalls(usize),
}

/// How a server is odd.
#[derive(Clone, Debug, Default)]
pub struct Quirks {
    pub marks: Marks,
    pub body: Body,
    pub no_ranges: bool,
    pub no_head: bool,
    /// Takes no notice of If-Match and If-Unmodified-Since.
    pub deaf: bool,
    /// Statuses of the next answers.
    pub statuses: VecDeque<u16>,
    /// Answers 200 for what is not there.
    pub soft_404: bool,
    /// Prefixes of paths, and what stands in their place.
    pub redirects: Vec<(String, String)>,
    /// A content encoding that nobody asked for.
    pub encoding: Option<&'static str>,
    /// The only value of the Authorization header that is let in.
    pub password: Option<String>,
}

type Then = Box<dyn FnOnce() + Send>;

#[derive(Clone)]
struct Shared {
    files: Files,
    quirks: Arc<Mutex<Quirks>>,
    /// A path, and what happens when it is asked for the first time.
    when_asked: Arc<Mutex<Option<(String, Then)>>>,
}

/// A running web server.
pub struct Web {
    pub server: Server,
    pub files: Files,
    quirks: Arc<Mutex<Quirks>>,
    when_asked: Arc<Mutex<Option<(String, Then)>>>,
}

impl Web {
    pub async fn start(files: Files, quirks: Quirks) -> Self {
        let quirks = Arc::new(Mutex::new(quirks));
        let when_asked: Arc<Mutex<Option<(String, Then)>>> = Arc::default();
        let shared = Shared { files: files.clone(), quirks: quirks.clone(), when_asked: when_asked.clone() };
        let server = Server::start(Router::new().fallback(handle).with_state(shared)).await;
        Self { server, files, quirks, when_asked }
    }

    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// Does something when a path is asked for the first time, before it is answered.
    pub fn when_asked(&self, path: &str, then: impl FnOnce() + Send + 'static) {
        *self.when_asked.lock().unwrap() = Some((path.to_owned(), Box::new(then)));
    }

    /// Changes how it is odd.
    pub fn set(&self, change: impl FnOnce(&mut Quirks)) {
        change(&mut self.quirks.lock().unwrap());
    }
}

async fn handle(State(shared): State<Shared>, method: Method, uri: Uri, request: HeaderMap) -> Response {
    let asked = shared.when_asked.lock().unwrap().take_if(|(path, _)| path == uri.path());
    if let Some((_, then)) = asked {
        then();
    }
    let (status, quirks) = {
        let mut quirks = shared.quirks.lock().unwrap();
        (quirks.statuses.pop_front(), quirks.clone())
    };
    let answer = match status {
        Some(status) => Answer::status(StatusCode::from_u16(status).unwrap()),
        None => answer(&shared.files, &quirks, &method, uri.path(), &request),
    };
    respond(answer, &method, quirks.body)
}

fn answer(files: &Files, quirks: &Quirks, method: &Method, path: &str, request: &HeaderMap) -> Answer {
    if let Some((from, to)) = quirks.redirects.iter().find(|(from, _)| path.starts_with(from.as_str())) {
        return Answer::status(StatusCode::FOUND).with("location", format!("{to}{}", &path[from.len()..]));
    }
    let sent = |name: header::HeaderName| request.get(name).and_then(|value| value.to_str().ok());
    if quirks.password.is_some() && quirks.password.as_deref() != sent(header::AUTHORIZATION) {
        return Answer::status(StatusCode::UNAUTHORIZED);
    }
    if quirks.no_head && method == Method::HEAD {
        return Answer::status(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Some(file) = files.get(path.trim_start_matches('/')) else {
        return Answer::status(if quirks.soft_404 { StatusCode::OK } else { StatusCode::NOT_FOUND });
    };
    let tag = format!("\"{}\"", blake3::hash(&file.bytes).to_hex());
    let date = format!("Tue, 24 Nov 2026 05:{:02}:00 GMT", file.written);
    let tag = match quirks.marks {
        Marks::Strong => Some(tag),
        Marks::Weak | Marks::WeakTagOnly => Some(format!("W/{tag}")),
        Marks::Date | Marks::None => None,
    };
    let date = matches!(quirks.marks, Marks::Strong | Marks::Weak | Marks::Date).then_some(date);
    if !quirks.deaf {
        let other = |name, mark: &Option<String>| sent(name).is_some_and(|wanted| Some(wanted) != mark.as_deref());
        if other(header::IF_MATCH, &tag) || other(header::IF_UNMODIFIED_SINCE, &date) {
            return Answer::status(StatusCode::PRECONDITION_FAILED);
        }
    }
    let mut answer = Answer::object(method, request, &file.bytes, !quirks.no_ranges);
    for (name, value) in
        [("etag", tag), ("last-modified", date), ("content-encoding", quirks.encoding.map(str::to_owned))]
    {
        if let Some(value) = value {
            answer = answer.with(name, value);
        }
    }
    answer
}

/// Puts an answer on the wire.
pub fn respond(answer: Answer, method: &Method, body: Body) -> Response {
    let Answer { status, headers, body: bytes } = answer;
    let mut response = Response::new(AxumBody::empty());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().insert(header::CONTENT_LENGTH, bytes.len().into());
    if method == Method::HEAD {
        return response;
    }
    let first = |n: usize| futures::stream::iter([Ok::<_, std::io::Error>(bytes[..n.min(bytes.len())].to_vec())]);
    *response.body_mut() = match body {
        Body::Whole => AxumBody::from(bytes),
        Body::Cut(n) => {
            // What is there already is sent while the rest is waited for.
            let cut = futures::stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut"))
            });
            AxumBody::from_stream(first(n).chain(cut))
        }
        Body::Ends(n) => {
            response.headers_mut().remove(header::CONTENT_LENGTH);
            AxumBody::from_stream(first(n))
        }
        Body::Stalls(n) => AxumBody::from_stream(first(n).chain(futures::stream::pending())),
    };
    response
}
