//! URLs to locations and back, and the refusal of what would be a secret.

use std::path::PathBuf;

use super::scheme::Scheme;
use crate::error::{Error, ErrorKind, Result};

/// What a URL names.
pub(super) enum Parsed {
    /// A file.
    File(PathBuf),
    /// Anything else; the path is absolute and plain.
    Remote { scheme: Scheme, authority: String, path: String },
}

/// What a URL names, or `None` if the text is no URL.
pub(super) fn parse(text: &str) -> Result<Option<Parsed>> {
    let Some((scheme, rest)) = split_scheme(text) else { return Ok(None) };
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "file" => return file(text, rest).map(|path| Some(Parsed::File(path))),
        "s3" => Scheme::S3,
        "gs" => Scheme::Gs,
        "az" | "abfss" => Scheme::Azure,
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "hf" => Scheme::Hub,
        other => {
            let message = format!("{other}:// is no store that shardfuse reaches");
            return Err(Error::new(ErrorKind::Unsupported, shown(text), message));
        }
    };
    let (authority, path) = remote(text, scheme, rest.strip_prefix("//").unwrap_or(rest))?;
    Ok(Some(Parsed::Remote { scheme, authority, path }))
}

fn remote(text: &str, scheme: Scheme, rest: &str) -> Result<(String, String)> {
    let refuse = |message: &str| Err(Error::new(ErrorKind::Permanent, shown(text), message));
    let web = matches!(scheme, Scheme::Http | Scheme::Https);
    if web && rest.contains(['?', '#']) {
        return refuse(
            "a web address with a query or a fragment; signed addresses are secrets, and not kept in a plan",
        );
    }
    if web && rest.contains('@') {
        return refuse("a web address with a user; credentials belong to --stores (write an @ of the path as %40)");
    }
    if rest.contains(['\0', '\\']) || rest.chars().any(char::is_control) {
        return refuse("a URL with a backslash or a control character");
    }
    let (authority, path) = match scheme {
        Scheme::Hub => ("", rest),
        _ => rest.split_once('/').unwrap_or((rest, "")),
    };
    let of = |s: &str, more: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    let fits = match scheme {
        Scheme::Hub => true,
        Scheme::Http | Scheme::Https => of(authority, "-._:[]"),
        // A bucket becomes a part of a host or of a path, so nothing that means something there may be in it.
        Scheme::Azure => match authority.split_once('@') {
            Some((container, host)) => of(container, "-._$") && is_azure(host),
            None => of(authority, "-._$"),
        },
        _ => of(authority, "-._"),
    };
    if !fits {
        let message = match scheme {
            Scheme::Azure => "needs a container, or container@account.dfs.core.windows.net, before the path",
            Scheme::Http | Scheme::Https => {
                "needs a host and nothing else before the path; credentials belong to --stores"
            }
            _ => {
                "needs a bucket's name and nothing else before the path; credentials belong to --stores or the environment"
            }
        };
        return refuse(message);
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let components: Vec<&str> = path.split('/').collect();
    let empty = path.is_empty() && scheme != Scheme::Hub;
    if !empty && components.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return refuse("a URL whose path has an empty component, `.` or `..`");
    }
    if scheme == Scheme::Hub {
        let name = |s: &str| s.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        let revision = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "-._%".contains(c));
        let model = components.get(1).copied().unwrap_or_default();
        let (model, at) = model.split_once('@').map_or((model, None), |(model, at)| (model, Some(at)));
        if components.len() < 2 || model.is_empty() || !name(components[0]) || !name(model) || !at.is_none_or(revision)
        {
            return refuse("names no model of the hub; write hf://org/model or hf://org/model@revision");
        }
    }
    // Hosts compare without case; buckets and containers do not.
    let authority = if web { authority.to_ascii_lowercase() } else { authority.to_owned() };
    Ok((authority, format!("/{path}")))
}

/// Whether a host is an account of one of the Azure clouds. The URL chooses whom the process's credentials are sent to,
/// and whoever wrote it may not be whose they are: any other host is an endpoint, and belongs to `--stores`.
fn is_azure(host: &str) -> bool {
    const CLOUDS: [&str; 4] =
        ["core.windows.net", "core.chinacloudapi.cn", "core.usgovcloudapi.net", "fabric.microsoft.com"];
    let host = host.to_ascii_lowercase();
    let Some((account, rest)) = host.split_once('.') else { return false };
    let account = !account.is_empty() && account.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let service = rest.strip_prefix("dfs.").or_else(|| rest.strip_prefix("blob."));
    account && service.is_some_and(|cloud| CLOUDS.contains(&cloud))
}

/// The path that a `file:` URL names.
fn file(text: &str, rest: &str) -> Result<PathBuf> {
    let refuse = |message: &str| Err(Error::new(ErrorKind::Permanent, shown(text), message));
    // `file:/path` has no authority, `file:///path` an empty one.
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => match rest.find('/') {
            Some(at) if matches!(&rest[..at], "" | "localhost") => &rest[at..],
            _ => return refuse("a file URL that names a host; write file:///path"),
        },
    };
    if path.contains(['?', '#']) {
        return refuse("a file URL with a query or a fragment; write ? as %3F and # as %23");
    }
    match decode(path) {
        Some(path) => Ok(PathBuf::from(path)),
        None => refuse("a file URL whose percent-encoding is broken, or hides a slash or a zero byte"),
    }
}

/// Splits `scheme://rest` and `file:/rest`. A plain path may hold a colon, so a scheme counts only with its slashes.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let url = rest.starts_with("//") || (scheme.eq_ignore_ascii_case("file") && rest.starts_with('/'));
    (named && url).then_some((scheme, rest))
}

/// A URL without what may be secret: user and password before the host, signatures and tokens in the query.
fn shown(text: &str) -> String {
    let plain = text.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = plain.split_once("://") else { return plain.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    // A password may hold a slash that was not encoded; then what looks like a path ends in the rest of it.
    let path = path.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// Percent-decodes a path. What is encoded may not change how many components the path has.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (high, low) = (hex(rest.next()?)?, hex(rest.next()?)?);
        match high << 4 | low {
            0 | b'/' => return None,
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The `file://` URL of an absolute path.
pub(super) fn of_path(path: &str) -> String {
    format!("file://{}", encode(path))
}

/// Percent-encodes what a URL's path cannot hold; slashes stay.
pub(super) fn encode(path: &str) -> String {
    let mut url = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}
