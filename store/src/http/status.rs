//! What a status says, as a kind of failure.

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};

use crate::error::{Error, ErrorKind};
use crate::location::Location;

/// The kind of a status that is no success.
pub(crate) fn kind(status: StatusCode) -> ErrorKind {
    match status.as_u16() {
        404 | 410 => ErrorKind::NotFound,
        401 | 403 | 407 | 451 => ErrorKind::Permission,
        412 => ErrorKind::Changed,
        416 => ErrorKind::ShortRead,
        // 501 and 505: the server cannot, today or tomorrow.
        501 | 505 => ErrorKind::Permanent,
        408 | 425 | 429 | 500..=599 => ErrorKind::Transient,
        _ => ErrorKind::Permanent,
    }
}

/// The failure that a status is, with the pause that the server asks for.
pub(crate) fn refusal(at: &Location, status: StatusCode, headers: &HeaderMap) -> Error {
    let kind = kind(status);
    let message = match kind {
        ErrorKind::NotFound => format!("is not there ({status})"),
        ErrorKind::Permission => format!("may not be read ({status})"),
        ErrorKind::Changed => format!("is no longer what it was ({status})"),
        _ => format!("the server answers {status}"),
    };
    let error = match pause(headers) {
        Some(pause) => Error::new(kind, at, message).with_retry_after(pause),
        None => Error::new(kind, at, message),
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => error.as_throttled(),
        _ => error,
    }
}

/// `Retry-After` in seconds. A date says nothing without the server's clock.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_that_a_server_asks_for_goes_with_the_failure() {
        let at: Location = "https://a/x".parse().unwrap();
        let refused = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            refusal(&at, StatusCode::TOO_MANY_REQUESTS, &headers).retry_after()
        };
        assert_eq!(refused("7"), Some(Duration::from_secs(7)));
        assert_eq!(refused("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(refusal(&at, StatusCode::NOT_FOUND, &HeaderMap::new()).retry_after(), None);
    }

    #[test]
    fn a_status_says_whether_to_try_again() {
        for (status, expected) in [
            (404, ErrorKind::NotFound),
            (401, ErrorKind::Permission),
            (403, ErrorKind::Permission),
            (408, ErrorKind::Transient),
            (412, ErrorKind::Changed),
            (416, ErrorKind::ShortRead),
            (425, ErrorKind::Transient),
            (429, ErrorKind::Transient),
            (500, ErrorKind::Transient),
            (501, ErrorKind::Permanent),
            (503, ErrorKind::Transient),
            (400, ErrorKind::Permanent),
            (304, ErrorKind::Permanent),
        ] {
            assert_eq!(kind(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }
}
