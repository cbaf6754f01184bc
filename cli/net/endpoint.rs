//! The way to a coordinator.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use http::Uri;
use shardfuse_merge::{Error, Kind, Result};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::chain::chain;
use super::ping::{PING_EVERY, PING_TIMEOUT};
use super::tls::Files;
use crate::args::{DEFAULT_PORT, Way};
use crate::version::VERSION;

/// A name is resolved, a connection made and TLS agreed upon within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A coordinator's address and what it takes to be let in.
#[derive(Debug, Clone)]
pub struct Target {
    uri: Uri,
    files: Option<Files>,
    name: Option<String>,
}

impl Target {
    /// Understands a coordinator's URL. Without a port it is 7070.
    pub fn new(url: &str, way: &Way) -> Result<Target> {
        let files = Files::new(&way.tls)?;
        let uri = parse(url)?;
        let host = uri.host().unwrap_or_default();
        let usage = |message: String| Error::new(Kind::Usage, message);
        match (uri.scheme_str(), &files) {
            (Some("https"), None) => {
                return Err(usage(format!("{url} needs --tls-ca, --tls-cert and --tls-key"))
                    .hint("shardfuse certs makes them; a coordinator without TLS is reached with http://"));
            }
            (Some("http"), Some(_)) => {
                return Err(usage(format!("{url} is without TLS, but --tls-ca, --tls-cert and --tls-key are given"))
                    .hint("write https://, or leave the flags (and SHARDFUSE_TLS_*) out"));
            }
            (Some("http"), None) if !is_loopback(host) && !way.tls.insecure => {
                return Err(usage(format!("{url} leads to another machine without TLS")).hint(
                    "write https:// and give --tls-ca, --tls-cert and --tls-key, or trust the network with --insecure",
                ));
            }
            _ => {}
        }
        if let Some(files) = &files {
            files.read()?;
        }
        Ok(Target { uri, files, name: way.tls_name.clone() })
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        self.files.is_some()
    }

    /// The endpoint. Files are read anew, so that renewed certificates count from the next connection on.
    fn endpoint(&self) -> Result<Endpoint> {
        let endpoint = Endpoint::from(self.uri.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let endpoint =
            endpoint.user_agent(format!("shardfuse/{VERSION}")).map_err(|e| Error::new(Kind::Internal, chain(&e)))?;
        let Some(files) = &self.files else { return Ok(endpoint) };
        let loaded = files.read()?;
        let mut config =
            ClientTlsConfig::new().ca_certificate(loaded.ca).identity(loaded.identity).timeout(CONNECT_TIMEOUT);
        if let Some(name) = &self.name {
            config = config.domain_name(name);
        }
        endpoint.tls_config(config).map_err(|e| files.refused(&e))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.uri.authority().map_or("", |a| a.as_str());
        write!(f, "{}://{authority}", self.uri.scheme_str().unwrap_or("http"))
    }
}

/// Connects. The name is resolved anew each time, also when the channel reconnects by itself.
pub async fn connect(target: &Target) -> Result<Channel> {
    target.endpoint()?.connect().await.map_err(|e| unreachable(target, &e))
}

/// That a coordinator was not reached.
pub(super) fn unreachable(target: &Target, cause: &(dyn std::error::Error + 'static)) -> Error {
    let text = chain(cause);
    let error = Error::new(Kind::Io, format!("the coordinator at {target} cannot be reached: {text}"));
    error.hint(match target.is_tls() {
        true => {
            "is it running there, and did one authority (--tls-ca) sign both certificates? \
             A name that differs from the one in the coordinator's certificate is given with --tls-name"
        }
        false => "is it running there? If it speaks TLS, write https:// and give --tls-ca, --tls-cert and --tls-key",
    })
}

fn parse(url: &str) -> Result<Uri> {
    let wrong = |why: &str| {
        Error::new(Kind::Usage, format!("the coordinator {url:?} {why}"))
            .hint("such as https://coordinator.example:7070, or http://127.0.0.1:7070")
    };
    // Without the text: what stands before an @ may be a secret.
    if url.contains('@') {
        return Err(Error::new(Kind::Usage, "the coordinator's URL holds a user or a password")
            .hint("who this process is, its certificate says: --tls-cert"));
    }
    let uri: Uri = url.parse().map_err(|e| wrong(&format!("is no URL: {e}")))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("does not begin with https:// or http://"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("has a path, and only a host and a port are needed"));
    }
    let authority = match (uri.port(), uri.host()) {
        (Some(_), _) => return Ok(uri),
        (None, Some(host)) if !host.is_empty() => format!("{host}:{DEFAULT_PORT}"),
        _ => return Err(wrong("names no host")),
    };
    let scheme = uri.scheme_str().unwrap_or("http");
    format!("{scheme}://{authority}/").parse().map_err(|e| wrong(&format!("is no URL: {e}")))
}

fn is_loopback(host: &str) -> bool {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    plain == "localhost" || plain.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Tls;

    fn target(url: &str, insecure: bool) -> Result<Target> {
        Target::new(url, &Way { tls: Tls { insecure, ..Tls::default() }, tls_name: None })
    }

    #[test]
    fn a_url_is_a_scheme_and_a_host_and_7070_unless_it_says_otherwise() {
        for (url, shown) in [
            ("http://127.0.0.1", "http://127.0.0.1:7070"),
            ("http://localhost:81/", "http://localhost:81"),
            ("http://[::1]", "http://[::1]:7070"),
        ] {
            assert_eq!(target(url, false).unwrap().to_string(), shown);
        }
        for url in ["", "localhost", "localhost:7070", "ftp://a", "http://a/path", "http://localhost/?q", "http://"] {
            assert_eq!(target(url, true).unwrap_err().kind(), Kind::Usage, "{url}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let error = target("http://me:hunter2@localhost", true).unwrap_err();
        assert!(!error.message().contains("hunter2"), "{error}");
    }

    #[test]
    fn another_machine_takes_tls_or_insecure() {
        let error = target("http://coordinator:7070", false).unwrap_err();
        assert!(error.advice().unwrap().contains("--insecure"), "{error:?}");
        assert!(target("http://coordinator:7070", true).is_ok());
        assert!(target("https://coordinator:7070", true).unwrap_err().message().contains("--tls-ca"));
    }

    #[test]
    fn tls_takes_all_three_files() {
        let tls = Tls { tls_ca: Some("ca.pem".into()), tls_key: Some("key.pem".into()), ..Tls::default() };
        let error = Target::new("https://a", &Way { tls, tls_name: None }).unwrap_err();
        assert_eq!(error.message(), "--tls-ca and --tls-key without --tls-cert");
    }
}
