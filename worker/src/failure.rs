//! Why a task could not be done, and whether trying again can help.

use shardfuse_merge::recipe::op::{NoNorm, NoPlace, NoResult, Overflow};
use shardfuse_merge::{DtypeExt, Error, Kind};
use shardfuse_proto::v1;
use shardfuse_store::{self as store, ErrorKind};

/// A failure of a task.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Whether and where to try again.
    pub retry: v1::ErrorKind,
    /// What happened.
    pub error: Error,
}

impl Failure {
    /// A failure that will be the same everywhere and every time.
    pub fn permanent(kind: Kind, message: impl Into<String>) -> Self {
        Failure { retry: v1::ErrorKind::Permanent, error: Error::new(kind, message) }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: &str) -> Self {
        self.error = self.error.hint(hint);
        self
    }

    /// Puts a place before the message.
    #[must_use]
    pub fn at(mut self, place: impl std::fmt::Display) -> Self {
        self.error = self.error.at(place);
        self
    }

    /// A failure of this process.
    pub fn local(message: impl Into<String>) -> Self {
        Failure { retry: v1::ErrorKind::WorkerLocal, error: Error::new(Kind::Internal, message) }
    }
}

impl From<NoNorm> for Failure {
    fn from(NoNorm { tensor, output, norm }: NoNorm) -> Self {
        let what = format!("the norm of output {output} is {norm}, so {tensor} cannot be applied");
        Failure::permanent(Kind::NonFinite, what)
    }
}

impl From<NoResult> for Failure {
    fn from(none: NoResult) -> Self {
        let Overflow { row, col, value, to } = match none {
            NoResult::Norm(norm) => return norm.into(),
            NoResult::Place(NoPlace { tensor, place, of }) => {
                let what = format!("{tensor} names the place {place}, expected a whole number from 0 to below {of}");
                return Failure::permanent(Kind::ShapeMismatch, what)
                    .hint("the adapter was trained on a model of another size, or the file is damaged");
            }
            NoResult::Overflow(overflow) => overflow,
        };
        let place = format!("row {row}, column {col}");
        if !value.is_finite() {
            return Failure::permanent(Kind::NonFinite, format!("{place}: the result between two adapters is {value}"));
        }
        let what = format!("{place}: {value:e} overflows {} between two adapters", to.dtype().name());
        Failure::permanent(Kind::NonFinite, what)
            .hint("a wider output dtype holds it: --dtype bf16 or --dtype f32; --rounding once rounds only the end")
    }
}

impl From<store::Error> for Failure {
    /// Wrong credentials, or an endpoint without the bucket, are a fault of the worker that has them: the coordinator quarantines it after a few failures, and
    /// others continue. If every worker has them, the merge ends with this error once the last one is quarantined.
    fn from(e: store::Error) -> Self {
        let kind = Kind::parse(e.kind().failure()).unwrap_or(Kind::Io);
        let retry = match e.kind() {
            ErrorKind::Transient => v1::ErrorKind::Transient,
            // The coordinator looks for itself: the upload is gone, or only this worker does not see it.
            ErrorKind::NoSuchUpload => v1::ErrorKind::Stale,
            ErrorKind::Permission | ErrorKind::NoBucket => v1::ErrorKind::WorkerLocal,
            ErrorKind::Changed
            | ErrorKind::ShortRead
            | ErrorKind::NotAllowed
            | ErrorKind::NoSpace
            | ErrorKind::NotFound
            | ErrorKind::Unsupported
            | ErrorKind::AlreadyExists
            | ErrorKind::InvalidPart
            | ErrorKind::Permanent => v1::ErrorKind::Permanent,
        };
        let error = Error::new(kind, e.chain());
        let error = match (e.kind(), e.hint()) {
            (_, Some(hint)) => error.hint(hint),
            (ErrorKind::NoSpace, None) => {
                error.hint("make room and run the same command again: it goes on where it stopped")
            }
            (ErrorKind::NotFound, None) => {
                error.hint("put it back and run the same command again: it goes on where it stopped")
            }
            (ErrorKind::Changed | ErrorKind::ShortRead, None) => {
                error.hint("put it back as it was and run the same command again, or begin anew with --restart")
            }
            (ErrorKind::Permission, None) => error.hint("every worker needs access to base, adapters and output"),
            _ => error,
        };
        Failure { retry, error }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { retry: v1::ErrorKind::Permanent, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_decides_who_tries_again() {
        for (kind, retry, name) in [
            (ErrorKind::Transient, v1::ErrorKind::Transient, Kind::Io),
            (ErrorKind::NoSuchUpload, v1::ErrorKind::Stale, Kind::PartsLost),
            (ErrorKind::Permission, v1::ErrorKind::WorkerLocal, Kind::NoAccess),
            (ErrorKind::NoBucket, v1::ErrorKind::WorkerLocal, Kind::MissingFile),
            (ErrorKind::Changed, v1::ErrorKind::Permanent, Kind::InputChanged),
            (ErrorKind::ShortRead, v1::ErrorKind::Permanent, Kind::InputChanged),
            (ErrorKind::NoSpace, v1::ErrorKind::Permanent, Kind::NoSpace),
            (ErrorKind::NotFound, v1::ErrorKind::Permanent, Kind::MissingFile),
            (ErrorKind::Unsupported, v1::ErrorKind::Permanent, Kind::Unsupported),
        ] {
            let failure = Failure::from(store::Error::new(kind, "s3://b/x", "cannot read"));
            assert_eq!((failure.retry, failure.error.kind()), (retry, name), "{kind:?}");
            assert!(failure.error.message().contains("s3://b/x"), "the object is named");
        }
    }
}
