//! The status page: its files, and the answers that it asks for.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};
use shardfuse_coordinator::hub;
use shardfuse_coordinator::registry::MergeId;
use shardfuse_merge::Result;

use super::host::{self, Hosts};
use super::overview;
use super::samples::Samples;

/// The files of the page: where they are asked for, their type, their text. It loads nothing from elsewhere.
const FILES: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("page/page.html")),
    ("/page/page.css", CSS, include_str!("page/page.css")),
    ("/page/main.js", JS, include_str!("page/main.js")),
    ("/page/make.js", JS, include_str!("page/make.js")),
    ("/page/list.js", JS, include_str!("page/list.js")),
    ("/page/fleet.js", JS, include_str!("page/fleet.js")),
    ("/page/merge.js", JS, include_str!("page/merge.js")),
    ("/page/grid.js", JS, include_str!("page/grid.js")),
    ("/page/stream.js", JS, include_str!("page/stream.js")),
];
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
/// Nothing but the page's own script and style runs, nothing is fetched from other places, and nobody frames it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What the page knows of the process beside the hub.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// The program's version.
    pub version: &'static str,
    /// Where clients reach the coordinator, as `--coordinator` takes it; an address of all interfaces has `0.0.0.0` or `[::]`.
    pub coordinator: String,
    /// Where a trace is looked at, with `{trace}` in the place of its id.
    pub trace_url: Option<String>,
}

#[derive(Debug)]
struct Shown {
    hub: hub::Handle,
    started: Instant,
    samples: Arc<Samples>,
    about: About,
}

/// The routes of the page, for requests that name one of the hosts.
pub fn routes(hub: hub::Handle, samples: Arc<Samples>, about: About, hosts: Hosts) -> Router {
    let shown = Arc::new(Shown { hub, started: Instant::now(), samples, about });
    let files = FILES
        .into_iter()
        .fold(Router::new(), |router, (at, kind, text)| router.route(at, get(async move || file(kind, text))));
    files
        .route("/api/about", get(async |State(shown): State<Arc<Shown>>| Json(shown.about.clone())))
        .route("/api/status", get(status))
        .route("/api/ended", get(ended))
        .route("/api/merges/{id}", get(merge))
        .route("/api/merges/{id}/grid", get(grid))
        .route("/api/merges/{id}/stream", get(stream))
        .with_state(shown)
        .layer(middleware::from_fn_with_state(hosts, host::check))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

async fn status(State(shown): State<Arc<Shown>>) -> Response {
    answer(overview::overview(&shown.hub, shown.started.elapsed(), &shown.samples, clock()).await)
}

async fn ended(State(shown): State<Arc<Shown>>) -> Response {
    answer(overview::ended(&shown.hub, &shown.samples).await)
}

async fn merge(State(shown): State<Arc<Shown>>, Path(id): Path<String>) -> Response {
    let Some(id) = MergeId::parse(&id) else { return StatusCode::NOT_FOUND.into_response() };
    match overview::merge(&shown.hub, &shown.samples, id, clock()).await {
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        found => answer(found),
    }
}

async fn grid(State(shown): State<Arc<Shown>>, Path(id): Path<String>) -> Response {
    let Some(id) = MergeId::parse(&id) else { return StatusCode::NOT_FOUND.into_response() };
    // A merge that has just ended has none any more; that is no mistake of the caller.
    answer(shown.hub.layers(id).await)
}

#[derive(Debug, Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn stream(State(shown): State<Arc<Shown>>, Path(id): Path<String>, Query(after): Query<After>) -> Response {
    let Some(id) = MergeId::parse(&id) else { return StatusCode::NOT_FOUND.into_response() };
    answer(overview::stream(&shown.hub, id, after.after, clock()).await)
}

fn answer<T: Serialize>(result: Result<T>) -> Response {
    match result {
        Ok(value) => ([(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")], Json(value)).into_response(),
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, e.to_string()).into_response(),
    }
}

/// Milliseconds since 1970: the page counts in this process's time.
fn clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
