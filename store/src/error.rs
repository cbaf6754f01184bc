//! What can go wrong with a store, sorted by what to do about it.
//!
//! Retry is decided by [`ErrorKind`], never by text. An error names the location and what was attempted; the cause
//! underneath (an `io::Error`, later an HTTP status) is its source and is not repeated in its own text.

use std::time::Duration;
use std::{fmt, io};

use rustix::io::Errno;

/// The result of a store's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was, and so what the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Nothing is there.
    NotFound,
    /// Something is there already, and the operation replaces nothing.
    AlreadyExists,
    /// The object is not the version that the pin names. Reading again gives the same answer.
    Changed,
    /// The object ends before the range that was asked for.
    ShortRead,
    /// The process may not do this.
    Permission,
    /// There is no such bucket or container, so nothing can be in it.
    NoBucket,
    /// The process does not do this, by the list of places that it was given.
    NotAllowed,
    /// The disk or the quota is full.
    NoSpace,
    /// The upload was completed, aborted, replaced or has expired: whoever still puts parts is stale.
    NoSuchUpload,
    /// The store refuses to complete an upload from these parts: one of them is not what its id says. Putting the parts
    /// again helps.
    InvalidPart,
    /// This store, or this version, cannot do it.
    Unsupported,
    /// It may work the next time.
    Transient,
    /// It will not work the next time either.
    Permanent,
}

impl ErrorKind {
    /// Whether the store did its work and said how things are: nothing is there, or something is already. Callers ask in
    /// order to hear that; it is no fault of the store.
    pub fn is_answer(self) -> bool {
        match self {
            Self::NotFound
            | Self::AlreadyExists
            | Self::Changed
            | Self::ShortRead
            | Self::NoSuchUpload
            | Self::InvalidPart
            | Self::Unsupported => true,
            Self::Permission
            | Self::NoBucket
            | Self::NotAllowed
            | Self::NoSpace
            | Self::Transient
            | Self::Permanent => false,
        }
    }

    /// The name that programs see when this ends a merge (`--error-format json`). It is the only such map, so one event has one
    /// name in every command.
    pub fn failure(self) -> &'static str {
        match self {
            Self::NotFound | Self::NoBucket => "missing_file",
            Self::Permission => "no_access",
            Self::Changed | Self::ShortRead => "input_changed",
            Self::NotAllowed => "not_allowed",
            Self::NoSpace => "no_space",
            Self::NoSuchUpload => "parts_lost",
            Self::Unsupported => "unsupported",
            Self::AlreadyExists | Self::InvalidPart | Self::Transient | Self::Permanent => "io",
        }
    }

    /// Whether the same call may succeed later with nothing changed by us.
    pub fn is_transient(self) -> bool {
        self == Self::Transient
    }

    /// The kind of an operating system's error.
    ///
    /// `EIO` is permanent on purpose: after a failed write-back the kernel drops the dirty pages, so a second sync
    /// succeeds without the data being there.
    pub fn of_io(error: &io::Error) -> Self {
        if let Some(errno) = Errno::from_io_error(error) {
            return Self::of_errno(errno);
        }
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::AlreadyExists => Self::AlreadyExists,
            io::ErrorKind::PermissionDenied => Self::Permission,
            io::ErrorKind::UnexpectedEof => Self::ShortRead,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero => Self::NoSpace,
            io::ErrorKind::Unsupported => Self::Unsupported,
            io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::TimedOut
            | io::ErrorKind::OutOfMemory => Self::Transient,
            _ => Self::Permanent,
        }
    }

    fn of_errno(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::NotFound,
            Errno::EXIST => Self::AlreadyExists,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => Self::Permission,
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace,
            Errno::NOTSUP | Errno::NOSYS => Self::Unsupported,
            // STALE: a network file system lost the handle; opening anew helps. MFILE and NFILE: others close theirs.
            Errno::INTR
            | Errno::AGAIN
            | Errno::BUSY
            | Errno::TIMEDOUT
            | Errno::STALE
            | Errno::MFILE
            | Errno::NFILE
            | Errno::NOMEM
            | Errno::NOLCK
            | Errno::CONNRESET
            | Errno::CONNABORTED
            | Errno::CONNREFUSED
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH => Self::Transient,
            _ => Self::Permanent,
        }
    }
}

/// A failed operation of a store.
#[derive(Debug, thiserror::Error)]
#[error("{location}: {message}")]
pub struct Error {
    kind: ErrorKind,
    location: String,
    message: String,
    hint: Option<String>,
    retry_after: Option<Duration>,
    throttled: bool,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a cause underneath. `location` is shown as it is, so it must hold no secret.
    pub fn new(kind: ErrorKind, location: impl fmt::Display, message: impl Into<String>) -> Self {
        Self {
            kind,
            location: location.to_string(),
            message: message.into(),
            hint: None,
            retry_after: None,
            throttled: false,
            source: None,
        }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error with what a person can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with the pause that a store asked for.
    #[must_use]
    pub fn with_retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// The same error, of a store that turned the call away because there were too many.
    #[must_use]
    pub fn as_throttled(mut self) -> Self {
        self.throttled = true;
        self
    }

    /// Whether the store turned the call away because there were too many.
    pub fn is_throttled(&self) -> bool {
        self.throttled || self.retry_after.is_some()
    }

    /// How long the store asked to be left alone, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// An operating system's error, with what was attempted ("cannot open").
    pub fn io(location: impl fmt::Display, message: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        Self::new(ErrorKind::of_io(&source), location, message).with_source(source)
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where it happened.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// What was attempted or found, without the location and the cause.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What a person can do about it, where the store knows.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The whole of it on one line, each cause behind a colon.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn the_cause_is_not_repeated() {
        let error = Error::io("/out/x", "cannot open", Errno::NOENT);
        assert_eq!(error.to_string(), "/out/x: cannot open");
        assert_eq!(error.source().unwrap().to_string(), "No such file or directory (os error 2)");
    }

    #[test]
    fn kinds_follow_the_errno() {
        for (errno, kind) in [
            (Errno::NOENT, ErrorKind::NotFound),
            (Errno::EXIST, ErrorKind::AlreadyExists),
            (Errno::ROFS, ErrorKind::Permission),
            (Errno::NOSPC, ErrorKind::NoSpace),
            (Errno::DQUOT, ErrorKind::NoSpace),
            (Errno::OPNOTSUPP, ErrorKind::Unsupported),
            (Errno::STALE, ErrorKind::Transient),
            (Errno::IO, ErrorKind::Permanent),
            (Errno::NAMETOOLONG, ErrorKind::Permanent),
        ] {
            assert_eq!(Error::io("x", "y", errno).kind(), kind, "{errno}");
        }
        let eof = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(ErrorKind::of_io(&eof), ErrorKind::ShortRead);
    }
}
