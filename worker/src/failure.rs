//! Why a task could not be done, and whether trying again can help.

use shardfuse_merge::{Error, Kind};
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

    /// A failure of this process.
    pub fn local(message: impl Into<String>) -> Self {
        Failure { retry: v1::ErrorKind::WorkerLocal, error: Error::new(Kind::Internal, message) }
    }
}

impl From<store::Error> for Failure {
    fn from(e: store::Error) -> Self {
        let message = e.chain();
        let hint = e.hint().map(str::to_owned);
        let (retry, kind) = match e.kind() {
            ErrorKind::Transient => (v1::ErrorKind::Transient, Kind::Io),
            ErrorKind::NoSuchUpload => (v1::ErrorKind::Stale, Kind::Io),
            ErrorKind::Changed | ErrorKind::ShortRead => (v1::ErrorKind::Permanent, Kind::InputChanged),
            ErrorKind::NoSpace => (v1::ErrorKind::Permanent, Kind::NoSpace),
            ErrorKind::NotFound => (v1::ErrorKind::Permanent, Kind::MissingFile),
            _ => (v1::ErrorKind::Permanent, Kind::Io),
        };
        let error = Error::new(kind, message);
        let error = match (hint, kind) {
            (_, Kind::NoSpace) => {
                error.hint("make room and run the same command again: it goes on where it stopped")
            }
            (Some(hint), _) => error.hint(hint),
            (None, Kind::MissingFile) => {
                error.hint("put it back and run the same command again: it goes on where it stopped")
            }
            (None, Kind::InputChanged) => {
                error.hint("put it back as it was and run the same command again, or begin anew with --restart")
            }
            (None, _) => error,
        };
        Failure { retry, error }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { retry: v1::ErrorKind::Permanent, error }
    }
}
