//! `file://` URLs to paths and back, and the refusal of all others.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};

/// The path that a URL names, or `None` if the text is no URL.
pub(super) fn to_path(text: &str) -> Result<Option<PathBuf>> {
    let Some((scheme, rest)) = split_scheme(text) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("file") {
        return Err(Error::new(
            ErrorKind::Unsupported,
            shown(text),
            format!("{}:// is not supported in this version", scheme.to_ascii_lowercase()),
        ));
    }
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
        Some(path) => Ok(Some(PathBuf::from(path))),
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
    let mut url = String::from("file://");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}
