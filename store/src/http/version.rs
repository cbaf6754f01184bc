//! Which version of an object a server shows: the pin's text, and holding an answer to it.
//!
//! | pin | means |
//! |---|---|
//! | `etag:SIZE:"TAG"` | a strong ETag: equal tags are equal bytes |
//! | `weak:SIZE:DATE` | no strong ETag: the Last-Modified date, as fine as a second |
//! | `weak:SIZE:W/"TAG"` | neither, but a weak ETag: what the server thinks is equivalent |
//! | `weak:SIZE:` | none of them: only the size |

use http::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED};

use crate::error::{Error, ErrorKind, Result};
use crate::id::Pin;
use crate::location::Location;

/// A version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub size: u64,
    mark: Mark,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Mark {
    Strong(String),
    Modified(String),
    WeakTag(String),
    SizeOnly,
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

impl Version {
    /// The version that an answer shows of an object of `size` bytes.
    pub fn of(headers: &HeaderMap, size: u64) -> Self {
        let tag = text(headers, ETAG);
        let mark = match (tag, text(headers, LAST_MODIFIED)) {
            (Some(tag), _) if tag.starts_with('"') => Mark::Strong(tag),
            (_, Some(date)) => Mark::Modified(date),
            (Some(tag), None) => Mark::WeakTag(tag),
            (None, None) => Mark::SizeOnly,
        };
        Self { size, mark }
    }

    pub fn to_pin(&self) -> Pin {
        Pin::new(match &self.mark {
            Mark::Strong(tag) => format!("etag:{}:{tag}", self.size),
            Mark::Modified(text) | Mark::WeakTag(text) => format!("weak:{}:{text}", self.size),
            Mark::SizeOnly => format!("weak:{}:", self.size),
        })
    }

    /// Reads a pin back. One of another store is `Changed`: whatever lies here now is not that.
    pub fn of_pin(at: &Location, pin: &Pin) -> Result<Self> {
        let parsed = || {
            let (kind, rest) = pin.as_str().split_once(':')?;
            let (size, text) = rest.split_once(':')?;
            let mark = match (kind, text) {
                ("etag", tag) => Mark::Strong(tag.to_owned()),
                ("weak", "") => Mark::SizeOnly,
                ("weak", tag) if tag.starts_with("W/") => Mark::WeakTag(tag.to_owned()),
                ("weak", date) => Mark::Modified(date.to_owned()),
                _ => return None,
            };
            Some(Self { size: size.parse().ok()?, mark })
        };
        parsed()
            .ok_or_else(|| Error::new(ErrorKind::Changed, at, format!("was {pin}, which is no pin of a web server")))
    }

    /// The condition under which a server may answer, for those that listen to it.
    pub fn condition(&self) -> Option<(HeaderName, HeaderValue)> {
        let (name, text) = match &self.mark {
            Mark::Strong(tag) => (IF_MATCH, tag),
            Mark::Modified(date) => (IF_UNMODIFIED_SINCE, date),
            Mark::WeakTag(_) | Mark::SizeOnly => return None,
        };
        HeaderValue::try_from(text).ok().map(|value| (name, value))
    }

    /// Holds an answer to this version, for servers that answer whatever the condition. `size` is the object's length
    /// where the answer tells it.
    pub fn check(&self, at: &Location, headers: &HeaderMap, size: Option<u64>) -> Result<()> {
        let now = match &self.mark {
            Mark::Strong(_) | Mark::WeakTag(_) => text(headers, ETAG),
            Mark::Modified(_) => text(headers, LAST_MODIFIED),
            Mark::SizeOnly => None,
        };
        let same = match &self.mark {
            Mark::Strong(was) | Mark::Modified(was) | Mark::WeakTag(was) => now.as_ref() == Some(was),
            Mark::SizeOnly => true,
        };
        if same {
            return self.check_size(at, size);
        }
        let now = now.unwrap_or_else(|| "unmarked".to_owned());
        Err(Error::new(ErrorKind::Changed, at, format!("was {}, and is now {now}", self.to_pin())))
    }

    /// Holds the object's length, where it is told, to this version.
    pub fn check_size(&self, at: &Location, size: Option<u64>) -> Result<()> {
        match size {
            Some(size) if size != self.size => {
                Err(Error::new(ErrorKind::Changed, at, format!("was {}, and has now {size} bytes", self.to_pin())))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_strongest_mark_becomes_the_pin_and_comes_back() {
        const DATE: &str = "Tue, 24 Nov 2026 05:00:00 GMT";
        let at: Location = "http://h/x".parse().unwrap();
        for (pairs, pin, condition) in [
            (vec![(ETAG, "\"a:b\""), (LAST_MODIFIED, DATE)], "etag:7:\"a:b\"", Some(IF_MATCH)),
            (
                vec![(ETAG, "W/\"a\""), (LAST_MODIFIED, DATE)],
                "weak:7:Tue, 24 Nov 2026 05:00:00 GMT",
                Some(IF_UNMODIFIED_SINCE),
            ),
            (vec![(LAST_MODIFIED, DATE)], "weak:7:Tue, 24 Nov 2026 05:00:00 GMT", Some(IF_UNMODIFIED_SINCE)),
            (vec![(ETAG, "W/\"a\"")], "weak:7:W/\"a\"", None),
            (vec![], "weak:7:", None),
        ] {
            let headers = headers(&pairs);
            let version = Version::of(&headers, 7);
            assert_eq!(version.to_pin().as_str(), pin);
            assert_eq!(Version::of_pin(&at, &version.to_pin()).unwrap(), version);
            assert_eq!(version.condition().map(|c| c.0), condition);
            version.check(&at, &headers, Some(7)).unwrap();
            version.check(&at, &headers, None).unwrap();
            assert_eq!(version.check(&at, &headers, Some(8)).unwrap_err().kind(), ErrorKind::Changed);
        }
        assert_eq!(Version::of_pin(&at, &Pin::new("file:7:1")).unwrap_err().kind(), ErrorKind::Changed);
    }

    #[test]
    fn an_answer_without_the_mark_is_not_the_version() {
        let at: Location = "http://h/x".parse().unwrap();
        let strong = Version::of(&headers(&[(ETAG, "\"a\"")]), 7);
        for other in [headers(&[(ETAG, "\"b\"")]), headers(&[(ETAG, "W/\"a\"")]), headers(&[])] {
            assert_eq!(strong.check(&at, &other, Some(7)).unwrap_err().kind(), ErrorKind::Changed);
        }
    }
}
