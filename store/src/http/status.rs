//! What a status says, as a kind of failure.

use http::StatusCode;

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

/// The failure that a status is.
pub(crate) fn refusal(at: &Location, status: StatusCode) -> Error {
    let kind = kind(status);
    let message = match kind {
        ErrorKind::NotFound => format!("is not there ({status})"),
        ErrorKind::Permission => format!("may not be read ({status})"),
        ErrorKind::Changed => format!("is no longer what it was ({status})"),
        _ => format!("the server answers {status}"),
    };
    let error = Error::new(kind, at, message);
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => error.as_throttled(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
