//! What the refusal of a copy is about: the copy, the upload, or every request of these credentials.

use super::failure;
use super::wire::Answer;
use crate::error::{ErrorKind, Result};

/// What a refusal comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What the store's words say, as with every other request.
    Told,
    /// The store does not do this copy.
    Refused,
    /// There is no such upload.
    Gone,
}

/// Whether a look at the upload is needed to tell what a refusal is about.
pub(super) fn asks(answer: &Answer) -> bool {
    failure::kind(answer.status, answer.code.as_deref()) == ErrorKind::NotFound || is_signature(answer)
}

fn is_signature(answer: &Answer) -> bool {
    answer.code.as_deref() == Some("SignatureDoesNotMatch")
}

/// Whether the credentials are wrong, whatever they are used for, if an ordinary request was refused like this.
pub(super) fn is_of_credentials(answer: &Answer) -> bool {
    let code = answer.code.as_deref().unwrap_or_default();
    is_signature(answer)
        || matches!(
            code,
            "InvalidAccessKeyId"
                | "AuthorizationHeaderMalformed"
                | "ExpiredToken"
                | "InvalidToken"
                | "RequestTimeTooSkewed"
        )
}

/// Judges a refusal. `upload` is what a look at the upload found, where one was needed.
pub(super) fn judge(answer: &Answer, upload: Option<Result<bool, ErrorKind>>) -> Verdict {
    let code = answer.code.as_deref().unwrap_or_default();
    match failure::kind(answer.status, answer.code.as_deref()) {
        ErrorKind::NoSuchUpload => Verdict::Gone,
        ErrorKind::NotFound => match upload {
            Some(Ok(false)) => Verdict::Gone,
            Some(Ok(true)) => Verdict::Told,
            _ if code == "NoSuchKey" => Verdict::Told,
            _ => Verdict::Refused,
        },
        ErrorKind::Permission if is_signature(answer) => match upload {
            Some(Err(ErrorKind::Permission)) => Verdict::Told,
            _ => Verdict::Refused,
        },
        ErrorKind::Permission if is_of_credentials(answer) => Verdict::Told,
        ErrorKind::Changed | ErrorKind::ShortRead | ErrorKind::Transient | ErrorKind::NoSpace | ErrorKind::NoBucket => {
            Verdict::Told
        }
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_refusal_of_the_copy_is_told_from_everything_else() {
        let (there, gone, denied) = (Some(Ok(true)), Some(Ok(false)), Some(Err(ErrorKind::Permission)));
        for (status, code, upload, expected) in [
            (412, "PreconditionFailed", None, Verdict::Told),
            (416, "InvalidRange", None, Verdict::Told),
            (503, "SlowDown", None, Verdict::Told),
            (500, "", None, Verdict::Told),
            (200, "InternalError", None, Verdict::Told),
            (404, "NoSuchUpload", None, Verdict::Gone),
            (404, "NoSuchKey", there, Verdict::Told),
            (404, "NoSuchKey", denied, Verdict::Told),
            (404, "NoSuchKey", gone, Verdict::Gone),
            (404, "", there, Verdict::Told),
            (404, "", gone, Verdict::Gone),
            (404, "", denied, Verdict::Refused),
            (403, "AccessDenied", None, Verdict::Refused),
            (403, "", None, Verdict::Refused),
            (400, "KMS.DisabledException", None, Verdict::Refused),
            (403, "InvalidObjectState", None, Verdict::Refused),
            (403, "InvalidAccessKeyId", None, Verdict::Told),
            (400, "ExpiredToken", None, Verdict::Told),
            (400, "AuthorizationHeaderMalformed", None, Verdict::Told),
            (403, "SignatureDoesNotMatch", denied, Verdict::Told),
            (403, "SignatureDoesNotMatch", there, Verdict::Refused),
            (400, "InvalidRequest", None, Verdict::Refused),
            (400, "InvalidArgument", None, Verdict::Refused),
            (405, "MethodNotAllowed", None, Verdict::Refused),
            (501, "NotImplemented", None, Verdict::Refused),
            (200, "AccessDenied", None, Verdict::Refused),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let code = Some(code.to_owned()).filter(|code| !code.is_empty());
            let answer = Answer { status, code, ..Answer::default() };
            assert_eq!(asks(&answer), upload.is_some(), "{answer}");
            assert_eq!(judge(&answer, upload), expected, "{answer}");
        }
    }
}
