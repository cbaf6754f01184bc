//! A listener with its security, and the services behind it.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use shardfuse_coordinator::service::role::Role;
use shardfuse_merge::{Error, Kind, Result};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::{Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Service;

use super::chain::chain;
use super::connections::{Connections, Limits};
use super::ping::{PING_EVERY, PING_TIMEOUT};
use super::requests::Counting;
use super::roles::Roles;
use super::tls::Files;
use crate::args;

/// A client must have shaken hands within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests that run when the end comes may take so long.
const GRACE: Duration = Duration::from_secs(10);
/// Headers of a request, in bytes. Ours have a few hundred.
const MAX_HEADERS: u32 = 16 << 10;
/// Requests at a time on one connection. A worker has one, a person a few.
const MAX_STREAMS: u32 = 128;

/// Where a peer's role comes from.
#[derive(Debug, Clone)]
pub enum Security {
    /// No TLS: anyone who reaches the port may do everything.
    Trusted,
    /// Mutual TLS: the role is in the client's certificate.
    FromCertificate(Files),
}

impl Security {
    /// Where clients reach a listener, as `--coordinator` takes it.
    pub fn url(&self, address: SocketAddr) -> String {
        match self {
            Security::Trusted => format!("http://{address}"),
            Security::FromCertificate(_) => format!("https://{address}"),
        }
    }
}

/// Binds. An address beyond this machine is refused without TLS, unless `--insecure` says that the network is trusted.
pub async fn listen(flags: &args::Listen) -> Result<(TcpListener, Security)> {
    let usage = |message: String| Error::new(Kind::Usage, message);
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&flags.listen)
        .await
        .map_err(|e| {
            usage(format!("--listen {:?} is no address: {e}", flags.listen))
                .hint("such as 127.0.0.1:7070 or 0.0.0.0:7070")
        })?
        .collect();
    let security = match Files::new(&flags.tls)? {
        Some(files) => {
            files.read()?;
            Security::FromCertificate(files)
        }
        None => Security::Trusted,
    };
    let beyond = addresses.iter().any(|a| !a.ip().is_loopback());
    if beyond && matches!(security, Security::Trusted) && !flags.tls.insecure {
        return Err(usage(format!("--listen {} would let other machines in without TLS", flags.listen)).hint(
            "give --tls-ca, --tls-cert and --tls-key (shardfuse certs makes them), or trust the network with --insecure",
        ));
    }
    let listener = TcpListener::bind(addresses.as_slice())
        .await
        .map_err(|e| Error::new(Kind::Io, format!("cannot listen on {}: {e}", flags.listen)))?;
    Ok((listener, security))
}

/// Where a listener is.
///
/// # Errors
/// `Io` if the system does not say.
pub fn address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|e| Error::new(Kind::Io, format!("the listener has no address: {e}")))
}

/// The services of one listener; health and reflection are always among them.
#[derive(Debug)]
pub struct Services {
    routes: Routes,
    health: HealthReporter,
    names: Vec<&'static str>,
}

impl Services {
    /// Health and reflection.
    pub fn new() -> Result<Services> {
        let (health, server) = tonic_health::server::health_reporter();
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(shardfuse_proto::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let broken = |e| Error::new(Kind::Internal, format!("the descriptors cannot be served: {e}"));
        // Many tools still ask for the older of the two.
        let routes = Routes::new(server)
            .add_service(reflection().build_v1().map_err(broken)?)
            .add_service(reflection().build_v1alpha().map_err(broken)?);
        Ok(Services { routes, health, names: vec![""] })
    }

    /// One more, which health reports by its name.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes = self.routes.add_service(service);
        self
    }

    async fn report(health: &HealthReporter, names: &[&'static str], status: ServingStatus) {
        for name in names {
            health.set_service_status(name, status).await;
        }
    }
}

/// Serves until `shutdown` ends. Health then says NOT_SERVING, no connection is accepted any more, and running requests
/// have a few seconds to end. The owner of a stream that would last longer ends it.
pub async fn serve(
    listener: TcpListener,
    services: Services,
    security: Security,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    serve_within(Limits::of_process(), listener, services, security, shutdown).await
}

/// The same with limits of its own for the connections.
pub(super) async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    services: Services,
    security: Security,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let connections = Connections::new(limits);
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADERS)
        .max_concurrent_streams(MAX_STREAMS);
    let roles = match &security {
        Security::Trusted => Roles::Fixed(Role::Trusted),
        Security::FromCertificate(files) => {
            let loaded = files.read()?;
            let config = ServerTlsConfig::new()
                .identity(loaded.identity)
                .client_ca_root(loaded.ca)
                .client_auth_optional(false)
                .timeout(HANDSHAKE_TIMEOUT);
            server = server.tls_config(config).map_err(|e| files.refused(&e))?;
            Roles::FromCertificate
        }
    };
    let Services { routes, health, names } = services;
    Services::report(&health, &names, ServingStatus::Serving).await;
    let (ending, ended) = oneshot::channel::<()>();
    let shutdown = async {
        shutdown.await;
        Services::report(&health, &names, ServingStatus::NotServing).await;
        let _ = ending.send(());
    };
    let serving = server
        .layer(Counting(connections.clone()))
        .layer(InterceptorLayer::new(roles))
        .add_routes(routes)
        .serve_with_incoming_shutdown(connections.accept_from(listener), shutdown);
    let overdue = async {
        if ended.await.is_err() {
            // The server ended without having been asked to: its own result says why.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => served.map_err(|e| Error::new(Kind::Io, format!("the listener failed: {}", chain(&e)))),
        () = overdue => Ok(()),
        () = connections.sweep() => Ok(()),
    }
}
