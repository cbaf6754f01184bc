//! What a process shows over plain HTTP, as typed.

use std::net::SocketAddr;

use clap::Args as ClapArgs;

/// Where HTTP is served.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Http {
    /// Serve /metrics (Prometheus) and /healthz on this address, and on loopback the status page; port 7071 by convention
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Serve the status page also beyond loopback; it names buckets and models, and asks nobody who they are
    #[arg(long, requires = "http")]
    pub status_page: bool,
    /// Serve the status page under these host names too, beside IP addresses, localhost and this machine's name
    #[arg(long, value_name = "NAME", requires = "http", value_delimiter = ',')]
    pub status_host: Vec<String>,
}
