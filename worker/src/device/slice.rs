//! Where computed rows go.

use std::ops::Range;

/// The bytes of a part that are one tensor's.
#[derive(Debug)]
pub struct Slice {
    /// The part.
    pub part: Vec<u8>,
    /// The bytes of it that are the tensor's.
    pub target: Range<usize>,
    /// Bytes of the first row that lie before the target.
    pub skip: usize,
}
