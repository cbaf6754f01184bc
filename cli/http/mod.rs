//! What a process shows over plain HTTP: metrics for Prometheus, a sign of life, and a coordinator's status page.
//!
//! It takes no commands and shows no secret, since none is in a merge spec, a plan or a log line. On a loopback address the
//! page is there; elsewhere only where it was asked for, because it names buckets and models.

mod fleet;
mod host;
mod merge;
mod overview;
mod pace;
mod page;
mod samples;
mod stretch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use shardfuse_coordinator::{counters, hub};
use shardfuse_merge::{Error, Kind, Result};
use tokio::net::TcpListener;

use crate::args;
use crate::report::internal;
use crate::telemetry;
use crate::version::VERSION;
use host::Hosts;
use page::About;
use samples::Samples;

/// How often old samples of histograms are folded.
const UPKEEP: Duration = Duration::from_secs(5);

/// A listener whose process keeps metrics already and serves nothing yet.
#[derive(Debug, Default)]
pub struct Http {
    bound: Option<Bound>,
    status_page: bool,
    hosts: Hosts,
    trace_url: Option<String>,
}

#[derive(Debug)]
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    recorder: PrometheusHandle,
}

impl Http {
    /// Listens, if an address is given, and keeps metrics from here on: what is counted before is lost.
    ///
    /// # Errors
    /// `Io` if the address cannot be bound.
    pub async fn bind(flags: &args::Http) -> Result<Http> {
        let Some(address) = flags.http else { return Ok(Http::default()) };
        let listener = TcpListener::bind(address)
            .await
            .map_err(|e| Error::new(Kind::Io, format!("cannot listen on {address} for HTTP: {e}")))?;
        let recorder = telemetry::recorder().map_err(|e| internal(format!("metrics cannot be kept: {e}")))?;
        let bound = Some(Bound { listener, address, recorder });
        Ok(Http {
            bound,
            status_page: flags.status_page,
            hosts: Hosts::new(&flags.status_host),
            trace_url: flags.trace_url.clone(),
        })
    }

    /// Begins to serve; a coordinator gives its hub, and where clients reach it. Ends with the process.
    pub fn serve(self, coordinator: Option<(hub::Handle, String)>) {
        let Some(Bound { listener, address, recorder }) = self.bound else { return };
        let (hub, reached) = coordinator.unzip();
        let fleet = hub.map(|hub| {
            counters::begin();
            (Samples::start(hub.clone()), hub)
        });
        let mut router = plain(recorder.clone(), fleet.clone());
        tokio::spawn(async move {
            let mut every = tokio::time::interval(UPKEEP);
            loop {
                every.tick().await;
                recorder.run_upkeep();
            }
        });
        // With port 0 the system chose one.
        let address = listener.local_addr().unwrap_or(address);
        tracing::info!("metrics: http://{address}/metrics");
        match fleet {
            Some((samples, hub)) if shows_page(address, self.status_page) => {
                let coordinator = reached.unwrap_or_default();
                let about = About { version: VERSION, coordinator, trace_url: self.trace_url };
                router = router.merge(page::routes(hub, samples, about, self.hosts));
                tracing::info!("status page: http://{address}/");
            }
            Some(_) => tracing::info!("no status page: {address} is not loopback, and --status-page is not given"),
            None => {}
        }
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "HTTP is no longer served");
            }
        });
    }
}

fn plain(recorder: PrometheusHandle, fleet: Option<(Arc<Samples>, hub::Handle)>) -> Router {
    let metrics = async move || {
        let mut text = recorder.render();
        if let Some((samples, hub)) = &fleet {
            // A coordinator that stops has no merges any more, and still has its counters.
            text.push_str(&fleet::gauges(hub, samples).await.unwrap_or_default());
        }
        ([(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"))], text).into_response()
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
