//! Copies whose values were compared before planning.

/// Two tensors of the base by their names, and whether they hold the same values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// One.
    pub left: String,
    /// The other.
    pub right: String,
    /// Whether dtype, shape and values are the same.
    pub same: bool,
    /// The bytes that were read of each to tell.
    pub read: u64,
}
