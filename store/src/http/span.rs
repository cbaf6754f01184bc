//! Ranges: what is asked for, and what an answer holds of it.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue};
use http::{StatusCode, header};

use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// The header that asks for `length` bytes from `offset`; `length` is not 0.
pub(crate) fn ask(at: &Location, offset: u64, length: usize) -> Result<(header::HeaderName, HeaderValue)> {
    let last = offset.checked_add(length as u64 - 1);
    let value = last.and_then(|last| HeaderValue::try_from(format!("bytes={offset}-{last}")).ok());
    match value {
        Some(value) => Ok((header::RANGE, value)),
        None => Err(Error::new(ErrorKind::ShortRead, at, format!("has no {length} bytes from {offset}"))),
    }
}

/// The length of an object by the answer to HEAD, or to a GET of all of it.
pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What an answer to a ranged question holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The first byte, and the one behind the last; `None` for 416.
    range: Option<(u64, u64)>,
    /// The object's length, where it is told.
    pub total: Option<u64>,
    /// Whether the server sent the object instead of the range.
    whole: bool,
}

impl Span {
    /// The span of an answer with status 200, 206 or 416.
    pub fn of(at: &Location, status: StatusCode, headers: &HeaderMap) -> Result<Self> {
        let odd = |message: String| Error::new(ErrorKind::Permanent, at, message);
        if status == StatusCode::OK {
            let total = length(headers);
            return Ok(Self { range: Some((0, total.unwrap_or(u64::MAX))), total, whole: true });
        }
        let text = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let parsed = text.and_then(parse);
        match (status, parsed) {
            (StatusCode::RANGE_NOT_SATISFIABLE, parsed) => {
                Ok(Self { range: None, total: parsed.and_then(|parsed| parsed.1), whole: false })
            }
            (_, Some((Some(range), total))) => Ok(Self { range: Some(range), total, whole: false }),
            _ => Err(odd(format!("answers with a part, and not which one (content-range {text:?})"))),
        }
    }

    /// Holds the answer against the question: `ShortRead` if the object ends too early, `Unsupported` if the server
    /// has no ranges. The body is not touched, so that nobody downloads an object for a part of it.
    pub fn check(&self, at: &Location, offset: u64, length: usize) -> Result<()> {
        let end = offset + length as u64;
        let Some((first, behind)) = self.range.filter(|(_, behind)| *behind >= end) else {
            let size = self.total.map_or("earlier".to_owned(), |total| format!("at {total}"));
            let message = format!("ends {size}, {length} bytes from {offset} were wanted");
            return Err(Error::new(ErrorKind::ShortRead, at, message));
        };
        if self.whole && (first, behind) != (offset, end) {
            let message = format!("the server has no ranges: it sends the whole object when asked for {length} bytes");
            return Err(Error::new(ErrorKind::Unsupported, at, message));
        }
        if (first, behind) != (offset, end) {
            let message = format!("the server answers with bytes {first}..{behind} when asked for {offset}..{end}");
            return Err(Error::new(ErrorKind::Permanent, at, message));
        }
        Ok(())
    }
}

type Parsed = (Option<(u64, u64)>, Option<u64>);

/// `bytes 0-9/100`, `bytes 0-9/*`, `bytes */100`.
fn parse(text: &str) -> Option<Parsed> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    if range == "*" {
        return Some((None, total));
    }
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let behind = last.checked_add(1)?;
    (first < behind && total.is_none_or(|total| behind <= total)).then_some((Some((first, behind)), total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(parse("bytes 0-9/100"), Some((Some((0, 10)), Some(100))));
        assert_eq!(parse("bytes 5-5/*"), Some((Some((5, 6)), None)));
        assert_eq!(parse("bytes */100"), Some((None, Some(100))));
        for text in ["", "bytes", "bytes 9-0/100", "bytes 0-100/100", "items 0-9/100", "bytes 0-18446744073709551615/*"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    fn span(status: u16, headers: &[(header::HeaderName, &'static str)]) -> Result<Span> {
        let map = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        Span::of(&"http://h/x".parse().unwrap(), StatusCode::from_u16(status).unwrap(), &map)
    }

    #[test]
    fn an_answer_must_hold_what_was_asked_for() {
        let at: Location = "http://h/x".parse().unwrap();
        let kind = |span: Span, offset, length| span.check(&at, offset, length).map_err(|e| e.kind());
        let part = span(206, &[(CONTENT_RANGE, "bytes 10-19/100")]).unwrap();
        assert_eq!(kind(part, 10, 10), Ok(()));
        assert_eq!(kind(part, 10, 11), Err(ErrorKind::ShortRead));
        assert_eq!(kind(part, 9, 11), Err(ErrorKind::Permanent), "another part");
        let whole = span(200, &[(CONTENT_LENGTH, "100")]).unwrap();
        assert_eq!(kind(whole, 0, 100), Ok(()), "the whole was asked for");
        assert_eq!(kind(whole, 0, 99), Err(ErrorKind::Unsupported));
        assert_eq!(kind(whole, 50, 100), Err(ErrorKind::ShortRead));
        assert_eq!(kind(span(200, &[]).unwrap(), 0, 99), Err(ErrorKind::Unsupported), "of unknown length");
        assert_eq!(kind(span(416, &[(CONTENT_RANGE, "bytes */5")]).unwrap(), 9, 1), Err(ErrorKind::ShortRead));
        assert_eq!(span(206, &[]).unwrap_err().kind(), ErrorKind::Permanent);
    }
}
