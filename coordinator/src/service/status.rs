//! Failures as gRPC statuses: the code tells a program what to do, the details carry a `shardfuse.v1.Failure`.

use shardfuse_merge::{Error, Kind};
use shardfuse_proto::v1;
use tonic::{Code, Status};

use prost::Message as _;

/// The code of a kind.
pub fn code(kind: Kind) -> Code {
    match kind {
        Kind::Usage => Code::InvalidArgument,
        Kind::OutputBusy => Code::AlreadyExists,
        Kind::Interrupted => Code::Unavailable,
        Kind::NoSpace => Code::ResourceExhausted,
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
    Status::with_details(code, error.message(), failure(error).encode_to_vec().into())
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

    #[test]
    fn a_status_without_details_keeps_its_message() {
        let error = error(&Status::permission_denied("no"));
        assert_eq!((error.kind(), error.message()), (Kind::Usage, "no"));
    }
}
