//! The host names that the status page answers to.
//!
//! A hostile page can make its own DNS name point to this process after a browser has loaded it (DNS rebinding), and could
//! then read the status. The browser still sends that name as `Host`, so requests for unknown names are refused. An IP
//! address cannot be pointed elsewhere and is always accepted.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::text::escape;

/// The names, in lower case.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Arc<BTreeSet<String>>);

impl Hosts {
    /// `localhost`, this machine's name, and the given ones.
    pub fn new(others: &[String]) -> Hosts {
        let own = sysinfo::System::host_name().into_iter().chain(["localhost".to_owned()]);
        Hosts(Arc::new(own.chain(others.iter().cloned()).map(|name| name.trim().to_ascii_lowercase()).collect()))
    }

    /// Whether a `Host` header names this process.
    fn allows(&self, header: &str) -> bool {
        if let Some(rest) = header.strip_prefix('[') {
            return rest.split_once(']').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok());
        }
        let name = header.rsplit_once(':').map_or(header, |(name, _)| name);
        name.parse::<IpAddr>().is_ok() || self.0.contains(&name.trim_end_matches('.').to_ascii_lowercase())
    }
}

/// Refuses a request for any other name.
pub async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    // HTTP/2 sends the name as a part of the address.
    let named = request.uri().authority().map(|authority| authority.as_str());
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok()).or(named);
    match host {
        Some(host) if hosts.allows(host) => next.run(request).await,
        host => {
            let host = escape(host.unwrap_or_default()).into_owned();
            let message = format!("the status page does not answer to the name {host:?}; --status-host adds one\n");
            (StatusCode::MISDIRECTED_REQUEST, message).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    #[test]
    fn numbers_and_known_names_are_fine() {
        let hosts = Hosts::new(&["status.Example".to_owned()]);
        for host in [
            "localhost:7071",
            "LOCALHOST",
            "127.0.0.1:7071",
            "10.0.0.7",
            "[::1]:7071",
            "[::1]",
            "status.example:80",
            "status.example.",
        ] {
            assert!(hosts.allows(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:7071", "localhost.evil.example", "127.0.0.1.evil.example", "[x]", "::1"]
        {
            assert!(!hosts.allows(host), "{host}");
        }
        assert!(!Hosts::new(&[]).allows("status.example"));
    }

    #[tokio::test]
    async fn a_request_for_another_name_sees_nothing() {
        let router = Router::new()
            .route("/api/status", get(async || "secret"))
            .layer(axum::middleware::from_fn_with_state(Hosts::new(&[]), check));
        for (host, status) in [
            (Some("localhost:7071"), StatusCode::OK),
            (Some("rebound.example:7071"), StatusCode::MISDIRECTED_REQUEST),
            (None, StatusCode::MISDIRECTED_REQUEST),
        ] {
            let mut request = http::Request::get("/api/status");
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), status, "{host:?}");
        }
    }
}
