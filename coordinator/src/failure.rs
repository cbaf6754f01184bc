//! Store errors in the domain's words.

use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{self as store, Location};

/// A store error met while reading or writing, as a failure of the merge.
pub fn io(e: store::Error) -> Error {
    let kind = Kind::parse(e.kind().failure()).unwrap_or(Kind::Io);
    let error = Error::new(kind, e.chain());
    match (kind, e.hint()) {
        (_, Some(hint)) => error.hint(hint),
        (Kind::NoSpace, None) => error.hint("make room and run the same command again: it goes on where it stopped"),
        (_, None) => error,
    }
}

/// A store error met while reading an input of a merge that runs, as a failure of the merge. Its hint is the worker's for the
/// same error: the state stays, so the merge continues once the input is back.
pub fn input(e: store::Error) -> Error {
    let error = io(e);
    match (error.kind(), error.advice()) {
        (Kind::MissingFile, None) => {
            error.hint("put it back and run the same command again: it goes on where it stopped")
        }
        (Kind::InputChanged, None) => {
            error.hint("put it back as it was and run the same command again, or begin anew with --restart")
        }
        _ => error,
    }
}

/// A failure of a merge that has begun. What is done stays, so lost access ends it for this time only.
pub fn of_begun(error: Error) -> Error {
    match error.kind() {
        Kind::NoAccess => error.as_kind(Kind::AccessLost),
        _ => error,
    }
}

/// A location that a plan or spec names; those are absolute.
pub fn location(url: &str) -> Result<Location> {
    url.parse().map_err(io)
}

/// A name below a location.
pub fn join(at: &Location, name: &str) -> Result<Location> {
    at.join(name).map_err(io)
}

#[cfg(test)]
mod tests {
    use shardfuse_store::ErrorKind;

    use super::*;

    #[test]
    fn a_store_error_has_one_kind_in_every_command() {
        for (kind, name) in [
            (ErrorKind::NotFound, Kind::MissingFile),
            (ErrorKind::AlreadyExists, Kind::Io),
            (ErrorKind::Changed, Kind::InputChanged),
            (ErrorKind::ShortRead, Kind::InputChanged),
            (ErrorKind::Permission, Kind::NoAccess),
            (ErrorKind::NoBucket, Kind::MissingFile),
            (ErrorKind::NotAllowed, Kind::NotAllowed),
            (ErrorKind::NoSpace, Kind::NoSpace),
            (ErrorKind::NoSuchUpload, Kind::PartsLost),
            (ErrorKind::InvalidPart, Kind::Io),
            (ErrorKind::Unsupported, Kind::Unsupported),
            (ErrorKind::Transient, Kind::Io),
            (ErrorKind::Permanent, Kind::Io),
        ] {
            assert_eq!(Kind::parse(kind.failure()), Some(name), "{kind:?} names a kind");
            assert_eq!(io(store::Error::new(kind, "s3://b/x", "cannot read")).kind(), name);
        }
    }
}
