//! Which addresses a process connects to on behalf of others.
//!
//! A coordinator and a worker read URLs that a submitter wrote, and a server may redirect them. Without a limit, either
//! could make them ask services of their own network. So a connection goes to an origin that the operator named, or by
//! https to a public address. The address that is connected to is checked, not one that was looked up before: the
//! resolver of the connection itself leaves out every other address.
//!
//! Where the environment names a proxy, the proxy looks names up and makes the connection. Then only addresses that are
//! written as numbers can be checked here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// Which addresses a client may connect to.
#[derive(Clone, Debug, Default)]
pub(crate) enum Reach {
    /// Every address, for a command that a user runs for themselves.
    #[default]
    Everywhere,
    /// Some origins, and by https every public address.
    Named(Named),
}

/// The origins that an operator named.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// Such as `https://host:8443`.
    origins: Arc<BTreeSet<String>>,
    /// Whether the environment names a proxy for an address.
    by_proxy: fn(&Url) -> bool,
}

/// How a client connects to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To whatever address its name has.
    Free,
    /// To its public addresses only.
    Public,
}

impl Reach {
    /// The origins of these addresses; what has none is left out.
    pub(crate) fn named<'a>(addresses: impl Iterator<Item = &'a str>) -> Self {
        let origin = |text: &str| Url::parse(text).ok().map(|url| origin(&url));
        Self::Named(Named { origins: Arc::new(addresses.filter_map(origin).collect()), by_proxy })
    }

    /// How to connect to an address; `NotAllowed` if it must not be connected to. An error names the origin alone: a
    /// path that was redirected to may be signed.
    pub(super) fn way(&self, at: &Location, url: &Url) -> Result<Way> {
        let Self::Named(named) = self else { return Ok(Way::Free) };
        let origin = origin(url);
        if named.origins.contains(&origin) {
            return Ok(Way::Free);
        }
        if url.scheme() != "https" {
            return Err(refused(at, &format!("leads to {origin}, which is not https")));
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let private = match host.parse::<IpAddr>() {
            Ok(address) => !is_public(address),
            Err(_) => is_localhost(host),
        };
        if private {
            return Err(refused(at, &format!("leads to {origin}, which is not a public address")));
        }
        Ok(if (named.by_proxy)(url) { Way::Free } else { Way::Public })
    }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

pub(super) fn refused(at: &Location, message: &str) -> Error {
    Error::new(ErrorKind::NotAllowed, at, message)
        .with_hint("https on public addresses is allowed, and origins that --allow, --stores or HF_ENDPOINT names")
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether the environment names a proxy for an address.
fn by_proxy(url: &Url) -> bool {
    static PROXIES: LazyLock<Matcher> = LazyLock::new(Matcher::from_env);
    url.as_str().parse().is_ok_and(|uri| PROXIES.intercept(&uri).is_some())
}

/// A name that has no public address.
#[derive(Debug, thiserror::Error)]
#[error("{0} has no public address")]
pub(super) struct NotPublic(String);

/// Looks names up and leaves out every address that is not public.
#[derive(Debug)]
pub(super) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let mut found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            found.retain(|address| is_public(address.ip()));
            match found.is_empty() {
                true => Err(NotPublic(name.as_str().to_owned()).into()),
                false => Ok(Box::new(found.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether an address belongs to the public internet, after IANA's registries of special-purpose addresses.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        // This network, private, loopback, link-local.
        (0 | 10 | 127, ..) | (172, 16..=31, _) | (192, 168, _) | (169, 254, _) => true,
        // Shared by carriers, protocol assignments, the relays of 6to4, benchmarks.
        (100, 64..=127, _) | (192, 0, 0) | (192, 88, 99) | (198, 18..=19, _) => true,
        // Documentation.
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => true,
        // Multicast, reserved, broadcast.
        (224.., ..) => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // IPv4 in the forms of ::ffff:0:0/96, 64:ff9b::/96 (NAT64) and 2002::/16 (6to4).
        [0, 0, 0, 0, 0, 0xFFFF, high, low] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Protocol assignments (Teredo among them) and documentation.
        [0x2001, 0..=0x1FF, ..] | [0x2001, 0xDB8, ..] | [0x3FFF, 0..=0xFFF, ..] => false,
        // Global unicast. Loopback, link-local and unique local addresses lie outside.
        [first, ..] => first & 0xE000 == 0x2000,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn private_and_special_addresses_are_not_public() {
        for text in ["1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "192.0.1.1", "223.255.0.1"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in ["2606:4700::1111", "2a00::1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::1"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "::",
            "::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "::127.0.0.1",
            "100::1",
            "3fff::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    /// The reach to these origins, whatever proxies the machine that runs the tests has.
    pub(in crate::http) fn reach(origins: &[&str], by_proxy: fn(&Url) -> bool) -> Reach {
        match Reach::named(origins.iter().copied()) {
            Reach::Named(named) => Reach::Named(Named { by_proxy, ..named }),
            Reach::Everywhere => Reach::Everywhere,
        }
    }

    #[test]
    fn an_origin_that_is_not_named_is_reached_by_https_on_public_addresses_only() {
        let at: Location = "hf://org/model/x".parse().unwrap();
        let named = ["http://127.0.0.1:8080/models", "https://mirror.internal/hf", "not an address"];
        let reach = reach(&named, |_| false);
        let way = |text: &str| reach.way(&at, &Url::parse(text).unwrap());
        assert_eq!(way("http://127.0.0.1:8080/elsewhere?x").unwrap(), Way::Free);
        assert_eq!(way("https://mirror.internal:443/x").unwrap(), Way::Free);
        assert_eq!(way("https://cdn.example/x?Signature=s").unwrap(), Way::Public);
        assert_eq!(way("https://1.1.1.1/x").unwrap(), Way::Public);
        assert_eq!(way("https://mirror.internal:8443/x").unwrap(), Way::Public, "another port is another origin");
        for text in [
            "http://cdn.example/x",
            "http://127.0.0.1/x",
            "https://127.0.0.1:8080/x",
            "https://0x7f.1/x",
            "https://[::1]/x",
            "https://[::ffff:10.0.0.1]/x",
            "https://localhost/x",
            "https://localhost./x",
            "https://a.localhost/x",
            "https://169.254.169.254/latest",
            "http://mirror.internal/x",
        ] {
            let error = way(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotAllowed, "{text}");
            assert!(error.hint().unwrap().contains("--allow"), "{text}");
        }
        let error = way("https://10.0.0.1/secret?Signature=s").unwrap_err().chain();
        assert!(
            error.contains("https://10.0.0.1,") && !error.contains("secret") && !error.contains("Signature"),
            "{error}"
        );
        assert_eq!(Reach::Everywhere.way(&at, &Url::parse("http://10.0.0.1/").unwrap()).unwrap(), Way::Free);
    }

    #[test]
    fn a_proxy_looks_names_up_and_is_given_no_private_address() {
        let at: Location = "hf://org/model/x".parse().unwrap();
        let reach = reach(&[], |_| true);
        let way = |text: &str| reach.way(&at, &Url::parse(text).unwrap());
        assert_eq!(way("https://cdn.example/x").unwrap(), Way::Free);
        for text in ["https://10.0.0.1/x", "https://localhost/x", "http://cdn.example/x"] {
            assert_eq!(way(text).unwrap_err().kind(), ErrorKind::NotAllowed, "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_is_resolved_to_public_addresses_only() {
        // The machine's own name for itself needs no network.
        let error = PublicOnly.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(error.downcast_ref::<NotPublic>().is_some(), "{error}");
        let mut found = PublicOnly.resolve("1.1.1.1".parse().unwrap()).await.unwrap();
        assert_eq!(found.next().map(|a| a.ip()), Some(IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1))));
    }
}
