//! From what a store said to what to do about it.

use http::StatusCode;

use super::advice;
use super::wire::{Answer, Outcome};
use crate::error::{Error, ErrorKind};
use crate::location::Location;

/// The error of a call, from what was seen of it.
pub(super) fn error(at: &Location, doing: &str, error: object_store::Error, seen: Option<Outcome>) -> Error {
    match seen {
        Some(outcome) => of(at, doing, outcome),
        // The store did as it was told, and the client still could not use it: an answer that is no S3, say.
        None => {
            let kind = match &error {
                object_store::Error::NotFound { .. } => ErrorKind::NotFound,
                object_store::Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
                object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
                    ErrorKind::Unsupported
                }
                _ => ErrorKind::Permanent,
            };
            // Its text holds that of its own source.
            Error::new(kind, at, doing).with_source(error.to_string())
        }
    }
}

/// The error of a request that failed.
pub(super) fn of(at: &Location, doing: &str, outcome: Outcome) -> Error {
    match outcome {
        Outcome::Answer(answer) => refused(at, doing, answer),
        Outcome::Broken(broken) => {
            let kind = if broken.for_good { ErrorKind::Permanent } else { ErrorKind::Transient };
            Error::new(kind, at, doing).with_source(broken)
        }
    }
}

/// The error of a login that failed. Where there never was one, no metadata service answering means that no credentials
/// were given, and trying again changes nothing.
pub(super) fn no_credentials(at: &Location, error: object_store::Error, seen: Option<Outcome>, worked: bool) -> Error {
    let transient = match &seen {
        Some(Outcome::Answer(answer)) => kind(answer.status, answer.code.as_deref()).is_transient(),
        Some(Outcome::Broken(broken)) => worked && !broken.for_good,
        None => false,
    };
    let kind = if transient { ErrorKind::Transient } else { ErrorKind::Permission };
    let message = match worked {
        true => "cannot renew the credentials for it",
        false => "there are no credentials for it",
    };
    let failed = Error::new(kind, at, message).with_hint(advice::credentials(at.scheme()));
    match seen {
        Some(Outcome::Answer(answer)) => failed.with_source(answer),
        Some(Outcome::Broken(broken)) => failed.with_source(broken),
        None => failed.with_source(error.to_string()),
    }
}

fn refused(at: &Location, doing: &str, answer: Answer) -> Error {
    let kind = kind(answer.status, answer.code.as_deref());
    let error = Error::new(kind, at, doing);
    let error = match advice::on(at, kind, &answer) {
        Some(hint) => error.with_hint(hint),
        None => error,
    };
    let error = match answer.retry_after {
        Some(pause) => error.with_retry_after(pause),
        None => error,
    };
    let error = match is_throttled(&answer) {
        true => error.as_throttled(),
        false => error,
    };
    error.with_source(answer)
}

/// Whether there were too many requests.
fn is_throttled(answer: &Answer) -> bool {
    let code = answer.code.as_deref().unwrap_or_default();
    let status = matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    status || matches!(code, "SlowDown" | "SlowDownRead" | "SlowDownWrite" | "ServerBusy" | "TooManyRequests")
}

/// The kind of a refusal. The code says more than the status; only where there is none, or one that nobody knows, does
/// the status decide.
pub(super) fn kind(status: StatusCode, code: Option<&str>) -> ErrorKind {
    match code.unwrap_or_default() {
        "NoSuchKey" | "BlobNotFound" => return ErrorKind::NotFound,
        // Not `NotFound`: a caller that asks for an object would take the bucket for there.
        "NoSuchBucket" | "ContainerNotFound" => return ErrorKind::NoBucket,
        "NoSuchUpload" => return ErrorKind::NoSuchUpload,
        "InvalidPart" | "InvalidBlockList" | "InvalidBlobOrBlock" => return ErrorKind::InvalidPart,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "ServerBusy"
        | "RequestTimeout"
        | "InternalError"
        | "OperationTimedOut"
        | "ServiceUnavailable"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "TooManyRequests"
        | "PendingCopyOperation" => return ErrorKind::Transient,
        // Bytes that were damaged on the way.
        "BadDigest"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "IncompleteBody"
        | "Md5Mismatch" => {
            return ErrorKind::Transient;
        }
        "ExpiredToken"
        | "AccessDenied"
        | "AuthorizationHeaderMalformed"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "AuthenticationFailed"
        | "AuthorizationPermissionMismatch"
        | "AuthorizationFailure"
        | "InvalidToken"
        | "RequestTimeTooSkewed" => {
            return ErrorKind::Permission;
        }
        "QuotaExceeded" | "XMinioStorageFull" | "AccountCapacityExceeded" => return ErrorKind::NoSpace,
        "ConditionNotMet" | "PreconditionFailed" => return ErrorKind::Changed,
        "BlobAlreadyExists" => return ErrorKind::AlreadyExists,
        "InvalidRange" => return ErrorKind::ShortRead,
        "NotImplemented" | "MethodNotAllowed" => return ErrorKind::Unsupported,
        _ => {}
    }
    match status.as_u16() {
        401 | 403 => ErrorKind::Permission,
        404 | 410 => ErrorKind::NotFound,
        304 | 412 => ErrorKind::Changed,
        416 => ErrorKind::ShortRead,
        405 | 501 => ErrorKind::Unsupported,
        507 => ErrorKind::NoSpace,
        // An error behind a status of success comes from a completion that broke off inside the store.
        200 | 408 | 409 | 425 | 429 | 500..=599 => ErrorKind::Transient,
        _ => ErrorKind::Permanent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_status_make_the_kind() {
        for (status, code, expected) in [
            (404, "NoSuchKey", ErrorKind::NotFound),
            (404, "", ErrorKind::NotFound),
            (404, "NoSuchBucket", ErrorKind::NoBucket),
            (404, "ContainerNotFound", ErrorKind::NoBucket),
            (404, "NoSuchUpload", ErrorKind::NoSuchUpload),
            (400, "InvalidPart", ErrorKind::InvalidPart),
            (400, "InvalidBlockList", ErrorKind::InvalidPart),
            (400, "EntityTooSmall", ErrorKind::Permanent),
            (400, "ExpiredToken", ErrorKind::Permission),
            (400, "AuthorizationHeaderMalformed", ErrorKind::Permission),
            (400, "RequestTimeout", ErrorKind::Transient),
            (400, "", ErrorKind::Permanent),
            (403, "SignatureDoesNotMatch", ErrorKind::Permission),
            (403, "", ErrorKind::Permission),
            (401, "NoAuthenticationInformation", ErrorKind::Permission),
            (409, "ConditionalRequestConflict", ErrorKind::Transient),
            (409, "BlobAlreadyExists", ErrorKind::AlreadyExists),
            (412, "PreconditionFailed", ErrorKind::Changed),
            (412, "", ErrorKind::Changed),
            (416, "InvalidRange", ErrorKind::ShortRead),
            (429, "", ErrorKind::Transient),
            (500, "InternalError", ErrorKind::Transient),
            (503, "SlowDown", ErrorKind::Transient),
            (503, "", ErrorKind::Transient),
            (200, "InternalError", ErrorKind::Transient),
            (501, "NotImplemented", ErrorKind::Unsupported),
            (507, "XMinioStorageFull", ErrorKind::NoSpace),
            (301, "PermanentRedirect", ErrorKind::Permanent),
        ] {
            let code = Some(code).filter(|code| !code.is_empty());
            assert_eq!(kind(StatusCode::from_u16(status).unwrap(), code), expected, "{status} {code:?}");
        }
    }
}
