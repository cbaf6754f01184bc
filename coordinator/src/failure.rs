//! Store errors in the domain's words.

use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{self as store, ErrorKind, Location};

/// A store error met while reading or writing, as a failure of the merge.
pub fn io(e: store::Error) -> Error {
    let kind = match e.kind() {
        ErrorKind::NotFound => Kind::MissingFile,
        ErrorKind::Changed | ErrorKind::ShortRead => Kind::InputChanged,
        ErrorKind::NoSpace => Kind::NoSpace,
        ErrorKind::NotAllowed => Kind::NotAllowed,
        ErrorKind::Unsupported => Kind::Unsupported,
        _ => Kind::Io,
    };
    let hint = e.hint().map(str::to_owned);
    let error = Error::new(kind, e.chain());
    match (kind, hint) {
        (_, Some(hint)) => error.hint(hint),
        (Kind::NoSpace, None) => error.hint("make room and run the same command again: it goes on where it stopped"),
        (_, None) => error,
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
