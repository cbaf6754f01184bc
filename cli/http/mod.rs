//! What a process shows over plain HTTP: metrics for Prometheus, a sign of life, and a coordinator's status page.
//!
//! It takes no commands and shows no secret, since none is in a merge spec, a plan or a log line. On a loopback address the
//! page is there; elsewhere only where it was asked for, because it names buckets and models.

mod overview;
mod page;
mod samples;

use std::net::SocketAddr;

use axum::Router;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::IntoResponse;
use axum::routing::get;
use clap::Args as ClapArgs;
use metrics_exporter_prometheus::PrometheusHandle;
use shardfuse_coordinator::hub;
use shardfuse_merge::{Error, Kind, Result};
use tokio::net::TcpListener;

use crate::report::internal;
use crate::telemetry;

/// Where HTTP is served.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Flags {
    /// Serve /metrics (Prometheus) and /healthz on this address, and on loopback the status page; port 7071 by convention
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Serve the status page also beyond loopback; it names buckets and models, and asks nobody who they are
    #[arg(long, requires = "http")]
    pub status_page: bool,
}

/// Begins to serve, if an address is given; a coordinator gives its hub. Ends with the process.
///
/// # Errors
/// `Io` if the address cannot be bound.
pub async fn serve(flags: &Flags, hub: Option<hub::Handle>) -> Result<()> {
    let Some(address) = flags.http else { return Ok(()) };
    let recorder = telemetry::recorder().map_err(|e| internal(format!("metrics cannot be kept: {e}")))?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| Error::new(Kind::Io, format!("cannot listen on {address} for HTTP: {e}")))?;
    let mut router = Router::new().merge(plain(recorder.clone()));
    tokio::spawn(async move {
        let mut every = tokio::time::interval(std::time::Duration::from_secs(5));
        loop {
            every.tick().await;
            recorder.run_upkeep();
        }
    });
    if let Some(hub) = hub
        && (address.ip().is_loopback() || flags.status_page)
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
