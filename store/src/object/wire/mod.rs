//! The HTTP client under every object store: what it sees decides what an error is.
//!
//! `object_store` tells apart only a few status codes. This client stands below it, sees status and error code of every
//! answer, and leaves them where the call can pick them up ([`Seen`]). It also counts requests, which is what a store
//! bills, and notices
//! transfers that stand still: time is allowed for each step of progress, not for the whole, so a part of any size may
//! take as long as it moves.
//!
//! | metric | labels |
//! |---|---|
//! | `shardfuse_store_http_requests_total` | `store`, `method`, `status` (the number, or `broken`) |
//! | `shardfuse_store_http_seconds` (until the answer begins) | `store`, `method` |

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use object_store::client::{
    ClientConfigKey, ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use tokio::time::Instant;

mod answer;
mod body;
mod broken;
mod seen;
mod silence;
#[cfg(test)]
mod tests;

pub(super) use answer::{Answer, element};
use body::{Progress, Received, Sent};
pub(super) use seen::{Outcome, Seen};

use broken::Broken;
use silence::Silence;

use crate::web;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a transfer may stand still, by what it waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// The next bytes of a body, in either direction.
    pub(crate) body: Duration,
    /// The beginning of an answer once all is sent; what the system buffers may still be on its way.
    pub(crate) answer: Duration,
    /// The same where the store has to put an object together, or to copy.
    pub(crate) completion: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { body: Duration::from_secs(30), answer: Duration::from_secs(60), completion: Duration::from_secs(300) }
    }
}

/// Connections shared by all buckets of a process, kept open between requests.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    client: reqwest::Client,
    timeouts: Timeouts,
}

impl Connections {
    /// A pool whose transfers fail if they stand still for longer than `timeouts`.
    pub(crate) fn new(timeouts: Timeouts) -> Result<Self, reqwest::Error> {
        let client = web::client().connect_timeout(CONNECT).http1_only().build()?;
        Ok(Self { client, timeouts })
    }

    /// The connector for one store, whose name the metrics bear.
    pub(super) fn connector(&self, store: String) -> Connector {
        Connector { connections: self.clone(), store }
    }
}

/// What `object_store` builds its clients with.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    connections: Connections,
    store: String,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let silence = Silence::of(self.store.clone());
        Ok(HttpClient::new(Wire {
            connections: self.connections.clone(),
            store: self.store.clone(),
            allow_http,
            silence,
        }))
    }
}

/// One client of one store.
#[derive(Debug)]
struct Wire {
    connections: Connections,
    store: String,
    allow_http: bool,
    silence: Silence,
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let seen = Seen::current();
        let method = request.method().clone();
        let started = Instant::now();
        let endpoint = endpoint(request.uri());
        let result = self.silence.watch(&endpoint, self.exchange(request, &seen)).await;
        let status = match &result {
            Ok(response) => response.status().as_u16().to_string(),
            Err(_) => "broken".to_owned(),
        };
        let labels = [("store", self.store.clone()), ("method", method.to_string())];
        metrics::histogram!("shardfuse_store_http_seconds", &labels).record(started.elapsed().as_secs_f64());
        metrics::counter!("shardfuse_store_http_requests_total", "store" => self.store.clone(), "method" => method.to_string(), "status" => status)
            .increment(1);
        result.map_err(|broken| {
            let error = HttpError::new(HttpErrorKind::Interrupted, broken.clone());
            seen.set(Outcome::Broken(broken));
            error
        })
    }
}

/// Scheme, host and port, without a path or a query, which may hold a signature.
fn endpoint(uri: &http::Uri) -> String {
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
        + &uri.port().map(|port| format!(":{port}")).unwrap_or_default()
}

impl Wire {
    async fn exchange(&self, request: HttpRequest, seen: &Seen) -> Result<HttpResponse, Broken> {
        let (parts, body) = request.into_parts();
        if parts.uri.scheme_str() != Some("https") && !self.allow_http {
            let message = "an endpoint without encryption, which --stores (allow_http) or the environment must allow";
            return Err(Broken::for_good(message));
        }
        let url = parts.uri.to_string().parse().map_err(|_| Broken::for_good("the address is no URL"))?;
        let mut request = reqwest::Request::new(parts.method.clone(), url);
        let copying = parts.headers.contains_key("x-amz-copy-source");
        *request.headers_mut() = parts.headers;
        let progress = Arc::new(Progress::begin());
        if body.content_length() > 0 {
            *request.body_mut() = Some(reqwest::Body::wrap(Sent::new(body, Arc::clone(&progress))));
        } else {
            progress.finish();
        }
        let building = match parts.method {
            _ if copying => true,
            Method::POST => true,
            Method::PUT => parts.uri.query().is_some_and(|query| query.contains("comp=blocklist")),
            _ => false,
        };
        let timeouts = self.connections.timeouts;
        let wait = if building { timeouts.completion } else { timeouts.answer };
        let response = progress.watch(timeouts.body, wait, self.connections.client.execute(request)).await?;
        let response: http::Response<reqwest::Body> = response.map_err(Broken::of)?.into();
        let (parts_of, body) = response.into_parts();
        let wait = if building { timeouts.completion } else { timeouts.body };
        let body = HttpResponseBody::new(Received::new(body, seen.clone(), wait));
        // What a POST or a copy answers is short, and may be an error in spite of its status.
        if parts_of.status.is_success() && parts.method != Method::POST && !copying {
            return Ok(HttpResponse::from_parts(parts_of, body));
        }
        let bytes = answer::collect(body).await?;
        if let Some(answer) = Answer::read(&parts_of, &bytes) {
            seen.set(Outcome::Answer(answer));
        }
        Ok(HttpResponse::from_parts(parts_of, bytes.into()))
    }
}
