//! The pin of a file of the hub: `hub:COMMIT:SIZE:ETAG`. The ETag may be missing; the commit alone holds the file.

use http::header::{ETAG, HeaderMap};

use super::place::is_commit;
use crate::error::{Error, ErrorKind, Result};
use crate::id::Pin;
use crate::location::Location;

/// A file at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub commit: String,
    pub size: u64,
    /// The content's digest for large files, git's for small ones; empty if the hub did not tell.
    etag: String,
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|value| !value.is_empty())
}

/// The ETag of the file itself: for a file that lies elsewhere, `X-Linked-Etag`. What is elsewhere may name its own.
fn etag(headers: &HeaderMap) -> Option<&str> {
    let etag = text(headers, "x-linked-etag").or_else(|| text(headers, ETAG.as_str()))?;
    Some(etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"'))
}

/// The size that the hub tells of a file that lies elsewhere.
pub(super) fn linked_size(headers: &HeaderMap) -> Option<u64> {
    text(headers, "x-linked-size")?.parse().ok()
}

impl Version {
    /// The version that the hub's own answer shows.
    pub fn of(at: &Location, headers: &HeaderMap, commit: &str, size: u64) -> Result<Self> {
        check_commit(at, headers, commit)?;
        Ok(Self { commit: commit.to_owned(), size, etag: etag(headers).unwrap_or_default().to_owned() })
    }

    pub fn to_pin(&self) -> Pin {
        Pin::new(format!("hub:{}:{}:{}", self.commit, self.size, self.etag))
    }

    /// Reads a pin back. One of another store is `Changed`.
    pub fn of_pin(at: &Location, pin: &Pin) -> Result<Self> {
        let parsed = || {
            let mut parts = pin.as_str().strip_prefix("hub:")?.splitn(3, ':');
            let (commit, size, etag) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
            is_commit(commit).then(|| Self { commit: commit.to_owned(), size, etag: etag.to_owned() })
        };
        parsed().ok_or_else(|| Error::new(ErrorKind::Changed, at, format!("was {pin}, which is no pin of the hub")))
    }

    /// Holds an answer to this version: the hub's own headers, and the object's length where it is told.
    pub fn check(&self, at: &Location, headers: &HeaderMap, size: Option<u64>) -> Result<()> {
        check_commit(at, headers, &self.commit)?;
        let other = etag(headers).filter(|etag| !self.etag.is_empty() && *etag != self.etag);
        if let Some(etag) = other {
            return Err(Error::new(
                ErrorKind::Changed,
                at,
                format!("was {}, and has now the ETag {etag}", self.to_pin()),
            ));
        }
        match size {
            Some(size) if size != self.size => {
                Err(Error::new(ErrorKind::Changed, at, format!("was {}, and has now {size} bytes", self.to_pin())))
            }
            _ => Ok(()),
        }
    }
}

/// A commit never changes; a server in the hub's place that takes no notice of it does.
fn check_commit(at: &Location, headers: &HeaderMap, commit: &str) -> Result<()> {
    match text(headers, "x-repo-commit") {
        Some(other) if other != commit => {
            let message = format!("the hub answers with commit {other} when asked for {commit}");
            Err(Error::new(ErrorKind::Changed, at, message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_pin_holds_commit_size_and_etag() {
        let at: Location = "hf://o/m/x".parse().unwrap();
        let linked = headers(&[("x-linked-etag", "\"sha\""), ("etag", "W/\"other\""), ("x-repo-commit", COMMIT)]);
        let version = Version::of(&at, &linked, COMMIT, 7).unwrap();
        assert_eq!(version.to_pin().as_str(), format!("hub:{COMMIT}:7:sha"));
        assert_eq!(Version::of_pin(&at, &version.to_pin()).unwrap(), version);
        version.check(&at, &linked, Some(7)).unwrap();
        version.check(&at, &headers(&[]), None).unwrap();
        let moved = headers(&[("x-repo-commit", "ffffffffffffffffffffffffffffffffffffffff")]);
        for (headers, size) in [(&linked, 8), (&headers(&[("etag", "\"else\"")]), 7), (&moved, 7)] {
            assert_eq!(version.check(&at, headers, Some(size)).unwrap_err().kind(), ErrorKind::Changed);
        }
        assert!(Version::of(&at, &moved, COMMIT, 7).is_err());
        for pin in ["hub:main:7:", "etag:7:\"a\"", "hub:", "hub:0123456789abcdef0123456789abcdef01234567:x:"] {
            assert_eq!(Version::of_pin(&at, &Pin::new(pin)).unwrap_err().kind(), ErrorKind::Changed, "{pin}");
        }
    }
}
