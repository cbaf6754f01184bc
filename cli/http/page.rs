//! The status page: one file, and the two answers that it asks for.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use shardfuse_coordinator::hub;
use shardfuse_coordinator::registry::MergeId;

use super::host::{self, Hosts};
use super::overview;
use super::samples::Samples;

/// The page. Everything is in it: it loads nothing from elsewhere.
const PAGE: &str = include_str!("page.html");
/// Nothing but the page's own script and style runs, nothing is fetched from other places, and nobody frames it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'";

#[derive(Debug)]
struct Shown {
    hub: hub::Handle,
    started: Instant,
    samples: Arc<Samples>,
}

/// The routes of the page, for requests that name one of the hosts.
pub fn routes(hub: hub::Handle, samples: Arc<Samples>, hosts: Hosts) -> Router {
    let shown = Arc::new(Shown { hub, started: Instant::now(), samples });
    Router::new()
        .route("/", get(page))
        .route("/api/status", get(status))
        .route("/api/merges/{id}/grid", get(grid))
        .with_state(shown)
        .layer(middleware::from_fn_with_state(hosts, host::check))
}

async fn page() -> Response {
    let headers = [(CONTENT_SECURITY_POLICY, POLICY), (X_CONTENT_TYPE_OPTIONS, "nosniff"), (CACHE_CONTROL, "no-cache")];
    (headers, Html(PAGE)).into_response()
}

async fn status(State(shown): State<Arc<Shown>>) -> Response {
    match overview::overview(&shown.hub, shown.started.elapsed(), &shown.samples).await {
        Ok(overview) => Json(overview).into_response(),
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, e.to_string()).into_response(),
    }
}

async fn grid(State(shown): State<Arc<Shown>>, Path(id): Path<String>) -> Response {
    let Some(id) = MergeId::parse(&id) else { return StatusCode::NOT_FOUND.into_response() };
    match shown.hub.layers(id).await {
        // A merge that has just ended has none any more; that is no mistake of the caller.
        Ok(grid) => Json(grid).into_response(),
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, e.to_string()).into_response(),
    }
}
