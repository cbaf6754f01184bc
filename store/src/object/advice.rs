//! What a user can do about a refusal: which variable or setting to look at.

use http::StatusCode;

use super::wire::Answer;
use crate::error::ErrorKind;
use crate::location::{Location, Scheme};

/// Where the credentials of a store come from.
pub(super) fn credentials(scheme: Scheme) -> String {
    format!("set {}, or name another source in a --stores file (docs/stores.md)", variables(scheme))
}

/// What to do about an answer, where its code or status tells.
pub(super) fn on(at: &Location, kind: ErrorKind, answer: &Answer) -> Option<String> {
    let redirected = answer.status.is_redirection() || answer.status == StatusCode::BAD_REQUEST;
    if let Some(region) = answer.region.as_ref().filter(|_| redirected) {
        return Some(format!("the bucket is in {region}: set AWS_REGION, or `region` in a --stores file, to that"));
    }
    if kind == ErrorKind::NoBucket {
        let endpoint = endpoint(at.scheme());
        return Some(format!("there is no {:?}: check its name, and {endpoint}", at.authority()));
    }
    if kind != ErrorKind::Permission {
        return None;
    }
    Some(match answer.code.as_deref() {
        Some("ExpiredToken") => "the session token has expired: export new credentials".to_owned(),
        Some("InvalidAccessKeyId") => {
            "the store does not know this key: check AWS_ACCESS_KEY_ID, and AWS_ENDPOINT_URL for which store is asked"
                .to_owned()
        }
        Some("SignatureDoesNotMatch") => {
            "the secret does not belong to the key: check AWS_SECRET_ACCESS_KEY".to_owned()
        }
        Some("RequestTimeTooSkewed") => "set the clock of this machine".to_owned(),
        _ => format!(
            "check {}, or `credentials` in the --stores file, and what the account may do in {:?}",
            variables(at.scheme()),
            at.authority()
        ),
    })
}

/// The variables that hold credentials.
fn variables(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Gs => "GOOGLE_APPLICATION_CREDENTIALS",
        Scheme::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
        _ => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    }
}

/// What tells where buckets are looked for.
fn endpoint(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Gs => "`endpoint` in the --stores file",
        Scheme::Azure => "AZURE_STORAGE_ACCOUNT_NAME, or `account` in the --stores file",
        _ => "AWS_ENDPOINT_URL, or `endpoint` in the --stores file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advised(url: &str, kind: ErrorKind, status: u16, code: Option<&str>, region: Option<&str>) -> String {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.map(str::to_owned),
            region: region.map(str::to_owned),
            ..Answer::default()
        };
        on(&url.parse().unwrap(), kind, &answer).unwrap_or_default()
    }

    #[test]
    fn a_refusal_names_the_variable_or_the_setting_to_look_at() {
        let s3 = "s3://models/x";
        for (url, kind, status, code, region, names) in [
            (s3, ErrorKind::Permission, 403, Some("InvalidAccessKeyId"), None, "AWS_ACCESS_KEY_ID"),
            (s3, ErrorKind::Permission, 403, Some("SignatureDoesNotMatch"), None, "AWS_SECRET_ACCESS_KEY"),
            (s3, ErrorKind::Permission, 403, Some("AccessDenied"), None, "\"models\""),
            (s3, ErrorKind::Permission, 400, Some("ExpiredToken"), None, "session token"),
            (s3, ErrorKind::NoBucket, 404, Some("NoSuchBucket"), None, "AWS_ENDPOINT_URL"),
            (s3, ErrorKind::Permanent, 301, Some("PermanentRedirect"), Some("eu-west-1"), "AWS_REGION"),
            ("gs://models/x", ErrorKind::Permission, 403, None, None, "GOOGLE_APPLICATION_CREDENTIALS"),
            ("az://models/x", ErrorKind::Permission, 403, None, None, "AZURE_STORAGE_ACCOUNT_KEY"),
        ] {
            let hint = advised(url, kind, status, code, region);
            assert!(hint.contains(names), "{code:?}: {hint}");
        }
        assert_eq!(advised(s3, ErrorKind::Transient, 503, Some("SlowDown"), None), "", "nothing to look at");
    }
}
