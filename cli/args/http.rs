//! What a process shows over plain HTTP, as typed.

use std::net::SocketAddr;

use clap::Args as ClapArgs;

/// Where HTTP is served.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Http {
    /// Serve /metrics (Prometheus) and /healthz on this address, and on loopback the status page. The usual port is 7071
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Serve the status page beyond loopback too. It names buckets and models, and has no access control
    #[arg(long, requires = "http")]
    pub status_page: bool,
    /// Host names under which the status page also answers, beside IP addresses, localhost and this machine's name
    #[arg(long, value_name = "NAME", requires = "http", value_delimiter = ',')]
    pub status_host: Vec<String>,
    /// Where traces are looked at: the status page links a merge's trace there, its id in the place of {trace}
    #[arg(long, value_name = "URL", requires = "http", value_parser = trace_url)]
    pub trace_url: Option<String>,
}

/// A link that a person may follow: a place on the web, with the trace in it.
fn trace_url(text: &str) -> Result<String, String> {
    let web = text.starts_with("https://") || text.starts_with("http://");
    match web && text.contains("{trace}") {
        true => Ok(text.to_owned()),
        false => Err("expected http:// or https://, with {trace} where the id goes".to_owned()),
    }
}
