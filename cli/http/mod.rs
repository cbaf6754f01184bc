//! What a process shows over plain HTTP: metrics for Prometheus, a sign of life, and a coordinator's status page.
//!
//! It takes no commands and shows no secret, since none is in a merge spec, a plan or a log line. On a loopback address the
//! page is there; elsewhere only where it was asked for, because it names buckets and models.

mod overview;
mod page;
mod samples;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use shardfuse_coordinator::hub;
use shardfuse_merge::{Error, Kind, Result};
use tokio::net::TcpListener;

use crate::args;
use crate::report::internal;
use crate::telemetry;

/// How often old samples of histograms are folded.
const UPKEEP: Duration = Duration::from_secs(5);

/// Begins to serve, if an address is given; a coordinator gives its hub. Ends with the process.
///
/// # Errors
/// `Io` if the address cannot be bound.
pub async fn serve(flags: &args::Http, hub: Option<hub::Handle>) -> Result<()> {
    let Some(address) = flags.http else { return Ok(()) };
    let recorder = telemetry::recorder().map_err(|e| internal(format!("metrics cannot be kept: {e}")))?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| Error::new(Kind::Io, format!("cannot listen on {address} for HTTP: {e}")))?;
    let mut router = plain(recorder.clone());
    tokio::spawn(async move {
        let mut every = tokio::time::interval(UPKEEP);
        loop {
            every.tick().await;
            recorder.run_upkeep();
        }
    });
    if let Some(hub) = hub
        && shows_page(address, flags.status_page)
    {
        router = router.merge(page::routes(hub));
    }
    tracing::info!(%address, "serving HTTP");
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "HTTP is no longer served");
        }
    });
    Ok(())
}

fn plain(recorder: PrometheusHandle) -> Router {
    let metrics = move || {
        let text = recorder.render();
        async move { ([(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"))], text).into_response() }
    };
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(async || "ok\n"))
}

/// The page names buckets and models: to other machines only where somebody asked for it.
fn shows_page(address: SocketAddr, asked: bool) -> bool {
    address.ip().is_loopback() || asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_see_the_page_only_where_it_was_asked_for() {
        for (address, asked, shown) in [
            ("127.0.0.1:7071", false, true),
            ("[::1]:7071", false, true),
            ("0.0.0.0:7071", false, false),
            ("[::]:7071", false, false),
            ("10.0.0.1:7071", false, false),
            ("0.0.0.0:7071", true, true),
        ] {
            assert_eq!(shows_page(address.parse().unwrap(), asked), shown, "{address}, asked: {asked}");
        }
    }
}
