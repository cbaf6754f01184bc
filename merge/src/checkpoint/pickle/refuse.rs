//! Refusals of a file.

use crate::error::{Error, Kind};

/// A file that is damaged, or laid out in a way that is not understood.
pub(super) fn bad(message: impl Into<String>) -> Error {
    Error::new(Kind::BadPickle, message)
}

/// Something that is understood and not read.
pub(super) fn unsupported(message: impl Into<String>) -> Error {
    Error::new(Kind::Unsupported, message)
}

/// A name from the file as it may stand in a message: no control characters, and not longer than a line.
pub(super) fn shown(name: &str) -> String {
    const LONGEST: usize = 160;
    let mut out: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        out.push_str("...");
    }
    out
}
