//! Health for probes that have no certificate: a listener of its own, without TLS, that knows nothing else.
//!
//! A kubelet's gRPC probe speaks no TLS, and a coordinator's port takes nobody without a certificate. What this port tells
//! is one bit, so it may be open where the other one is not.

use std::net::SocketAddr;

use shardfuse_merge::{Error, Kind, Result};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Server};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Target;
use super::connections::{Connections, Limits};
use super::requests::Counting;

/// The name that readiness has among health's services. The empty name says that the process lives.
pub const READY: &str = "ready";

/// Connections at a time. A probe has one for a moment.
const CONNECTIONS: usize = 64;

/// The port, and what it says.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Listens where `--health` says, for as long as the process lives. Without the flag nobody listens.
    pub async fn listen(address: Option<&str>) -> Result<Health> {
        let (reporter, service) = tonic_health::server::health_reporter();
        reporter.set_service_status(READY, ServingStatus::NotServing).await;
        let Some(address) = address else { return Ok(Health { reporter }) };
        let wrong = |e: std::io::Error| {
            Error::new(Kind::Usage, format!("--health {address:?}: {e}")).hint("such as 0.0.0.0:7072")
        };
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(wrong)?.collect();
        let listener = TcpListener::bind(addresses.as_slice()).await.map_err(wrong)?;
        let connections = Connections::new(Limits { most: CONNECTIONS, ..Limits::of_process() });
        let serving = Server::builder()
            .max_concurrent_streams(16)
            .http2_max_header_list_size(16 << 10)
            .layer(Counting(connections.clone()))
            .add_service(service)
            .serve_with_incoming(connections.accept_from(listener));
        tokio::spawn(async move {
            tokio::select! {
                _ = serving => {}
                () = connections.sweep() => {}
            }
        });
        Ok(Health { reporter })
    }

    /// A worker's next connection: it is ready while it has one.
    pub async fn connect(&self, target: &Target) -> Result<Channel> {
        self.ready(false).await;
        let channel = super::connect(target).await?;
        self.ready(true).await;
        Ok(channel)
    }

    /// Says whether the process can do its part: a coordinator that takes workers, a worker that has a coordinator.
    pub async fn ready(&self, ready: bool) {
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(READY, status).await;
    }
}

#[cfg(test)]
mod tests {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    use super::*;

    #[tokio::test]
    async fn a_process_lives_at_once_and_is_ready_when_it_says_so() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let health = Health::listen(Some(&address)).await.unwrap();
        let endpoint = tonic::transport::Endpoint::try_from(format!("http://{address}")).unwrap();
        let mut client = HealthClient::new(endpoint.connect().await.unwrap());
        let mut ask = async |service: &str| {
            let request = HealthCheckRequest { service: service.into() };
            client.check(request).await.unwrap().into_inner().status()
        };
        use tonic_health::pb::health_check_response::ServingStatus as Said;
        assert_eq!((ask("").await, ask(READY).await), (Said::Serving, Said::NotServing));
        health.ready(true).await;
        assert_eq!(ask(READY).await, Said::Serving);
        health.ready(false).await;
        assert_eq!((ask("").await, ask(READY).await), (Said::Serving, Said::NotServing));
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_a_usage_error() {
        assert_eq!(Health::listen(Some("nowhere")).await.unwrap_err().kind(), Kind::Usage);
    }
}
