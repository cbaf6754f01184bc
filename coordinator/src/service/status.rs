//! Failures as gRPC statuses: the code tells a program what to do, the details carry a `shardfuse.v1.Failure`.
//!
//! A status travels in the trailers of a response. Many clients take 8 KiB of them at the most, and drop the whole answer
//! where there is more: then the user reads of a broken connection and not of the failure. So both copies of the message are
//! cut here: percent-encoding makes three bytes of one, base64 four of three.

use shardfuse_merge::{Error, Kind, bounded};
use shardfuse_proto::v1;
use tonic::{Code, Status};

use prost::Message as _;

/// Bytes of the status's own message, before percent-encoding.
const MAX_STATUS: usize = 640;
/// Bytes of the message and of the hint in the details, before base64.
const MAX_DETAILS: (usize, usize) = (2560, 768);

/// The code of a kind.
pub fn code(kind: Kind) -> Code {
    match kind {
        Kind::Usage => Code::InvalidArgument,
        Kind::OutputBusy => Code::AlreadyExists,
        Kind::Interrupted => Code::Unavailable,
        Kind::NoSpace | Kind::Busy => Code::ResourceExhausted,
        Kind::Internal => Code::Internal,
        Kind::Io => Code::Unavailable,
        _ => Code::FailedPrecondition,
    }
}

/// A failure on the wire.
pub fn failure(error: &Error) -> v1::Failure {
    v1::Failure {
        kind: error.kind().as_str().to_owned(),
        message: error.message().to_owned(),
        hint: error.advice().unwrap_or_default().to_owned(),
    }
}

/// A failure as a status, under the code of its kind.
pub fn status(error: &Error) -> Status {
    with_code(code(error.kind()), error)
}

/// A failure as a status under another code.
pub fn with_code(code: Code, error: &Error) -> Status {
    let cut = |text: &str, most: usize| bounded::text(text.to_owned(), most);
    let mut failure = failure(error);
    failure.message = cut(&failure.message, MAX_DETAILS.0);
    failure.hint = cut(&failure.hint, MAX_DETAILS.1);
    Status::with_details(code, cut(error.message(), MAX_STATUS), failure.encode_to_vec().into())
}

/// The failure that a status carries, for clients; one made of its message where it carries none.
pub fn error(status: &Status) -> Error {
    let carried = v1::Failure::decode(status.details()).ok().filter(|f| !f.kind.is_empty());
    let kind = |f: &v1::Failure| Kind::parse(&f.kind);
    match carried.as_ref().and_then(|f| kind(f).map(|k| (k, f))) {
        Some((kind, f)) => {
            let error = Error::new(kind, f.message.clone());
            if f.hint.is_empty() { error } else { error.hint(f.hint.clone()) }
        }
        None => {
            let kind = match status.code() {
                Code::InvalidArgument | Code::NotFound | Code::PermissionDenied | Code::Unauthenticated => Kind::Usage,
                Code::AlreadyExists => Kind::OutputBusy,
                Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded => Kind::Io,
                _ => Kind::Internal,
            };
            Error::new(kind, status.message())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_wire_with_kind_and_hint() {
        let sent = Error::new(Kind::NonFinite, "tensor a.weight is NaN").hint("look at the adapter");
        let status = status(&sent);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(error(&status), sent);
    }

    /// The headers of a status as they are sent, counted as HTTP/2 counts them.
    fn header_bytes(status: &Status) -> usize {
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    #[test]
    fn a_status_fits_into_8_kib_of_trailers_whatever_is_in_the_message() {
        for text in ["x", "\u{1}", "ä", "%"] {
            let text = text.repeat(1 << 20);
            let sent = status(&Error::new(Kind::UnmatchedKeys, text.as_str()).hint(text));
            let bytes = header_bytes(&sent);
            assert!(bytes < 8 << 10, "{bytes}");
            let got = error(&sent);
            assert_eq!(got.kind(), Kind::UnmatchedKeys);
            assert!(got.message().ends_with("(cut off)") && got.advice().is_some());
        }
    }

    #[test]
    fn busy_is_a_code_that_says_try_again() {
        assert_eq!(status(&Error::new(Kind::Busy, "full")).code(), Code::ResourceExhausted);
    }

    #[test]
    fn a_status_without_details_keeps_its_message() {
        let error = error(&Status::permission_denied("no"));
        assert_eq!((error.kind(), error.message()), (Kind::Usage, "no"));
    }
}
