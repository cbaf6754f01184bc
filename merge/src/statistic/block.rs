//! A block of rows that is reduced.

use std::ops::Range;

use crate::base::scheme::claim::Whole;

/// Rows of a parameter.
#[derive(Debug, Clone)]
pub struct Block<'a> {
    /// The rows.
    pub rows: Range<u64>,
    /// Their values behind the steps, row-major.
    pub after: &'a [f32],
    /// Their values as they are stored; empty if the kind does not want them.
    pub before: &'a [f32],
    /// Their bytes as they are stored, in the order of [`crate::base::scheme::stored::Start::ranges`]; likewise.
    pub stored: &'a [&'a [u8]],
    /// What is known of all rows, where one scale serves them.
    pub whole: Option<Whole>,
}
