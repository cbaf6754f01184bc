//! Why the hub refuses: `X-Error-Code` says it, the status alone does not (a gated model and a wrong token are both 401).

use http::StatusCode;
use http::header::HeaderMap;

use super::place::Place;
use crate::error::{Error, ErrorKind};
use crate::http::status;
use crate::location::Location;

const TOKEN: &str = "set HF_TOKEN to a token of an account that may read it";

/// Whether the hub says that the model is there and the file or folder is not.
pub(super) fn is_missing_entry(headers: &HeaderMap) -> bool {
    code(headers) == "EntryNotFound"
}

fn code(headers: &HeaderMap) -> &str {
    headers.get("x-error-code").and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The failure that an answer of the hub is. `token` says whether one was sent.
pub(super) fn refusal(at: &Location, place: Place<'_>, token: bool, status: StatusCode, headers: &HeaderMap) -> Error {
    let error = |kind, message: String| Error::new(kind, at, message);
    match (code(headers), status) {
        ("GatedRepo", _) => {
            error(ErrorKind::Permission, format!("{place} is a gated model, and may not be read with this account"))
                .with_hint(format!("accept its terms on its page on the hub, then {TOKEN}"))
        }
        ("DisabledRepo", _) => error(ErrorKind::Permission, format!("the hub has disabled access to {place}")),
        ("RevisionNotFound", _) => error(ErrorKind::NotFound, format!("{place} has no revision {}", place.revision()))
            .with_hint("name a branch, a tag or a commit of it: hf://org/model@revision"),
        ("EntryNotFound", _) => error(ErrorKind::NotFound, format!("{place} has no file {}", place.file)),
        ("RepoNotFound", _) | (_, StatusCode::UNAUTHORIZED) if !token => {
            error(ErrorKind::NotFound, format!("the hub knows no model {place}, or it is private ({status})"))
                .with_hint(format!("check the name; if it is private, {TOKEN}"))
        }
        ("RepoNotFound", _) => {
            error(ErrorKind::NotFound, format!("the hub shows no model {place} to this account ({status})"))
                .with_hint("check the name; if it is private, use a token of an account that may read it")
        }
        (_, StatusCode::UNAUTHORIZED) => {
            error(ErrorKind::Permission, format!("the hub does not accept the token for {place} ({status})"))
                .with_hint("the token has expired or is mistyped: set HF_TOKEN to a valid one")
        }
        (_, StatusCode::FORBIDDEN) => error(ErrorKind::Permission, format!("{place} may not be read ({status})"))
            .with_hint(format!("the model is private, or its terms are not accepted: {TOKEN}")),
        _ => status::refusal(at, status, headers),
    }
}
