//! What cannot be understood of a message.

/// A message that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub(super) String);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

pub(super) type Result<T> = std::result::Result<T, Malformed>;

/// A field that must be there.
pub(super) fn need<T>(field: Option<T>, name: &str) -> Result<T> {
    field.ok_or_else(|| Malformed(format!("{name} is missing")))
}
