//! What a file of the output consists of.

use serde::{Deserialize, Serialize};

use crate::recipe::Placed;

/// Bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first byte.
    pub offset: u64,
    /// How many they are.
    pub length: u64,
}

impl Span {
    /// One past the last byte.
    pub fn end(self) -> u64 {
        self.offset + self.length
    }
}

/// A piece of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Segment<'a> {
    /// Bytes that are known before anything is computed, such as a header.
    Literal(Span),
    /// A tensor.
    Tensor(&'a Placed),
    /// Zeros between two others.
    Padding(Span),
    /// Bytes that are known once everything before them is written, such as the directory of an archive.
    Trailer(Span),
}

impl Segment<'_> {
    /// Where it is.
    pub fn span(&self) -> Span {
        match *self {
            Segment::Literal(span) | Segment::Padding(span) | Segment::Trailer(span) => span,
            Segment::Tensor(tensor) => Span { offset: tensor.offset, length: tensor.length },
        }
    }
}

/// Where everything but the tensors is in a file.
#[derive(Debug)]
pub struct Places {
    /// The literal bytes, in order.
    pub literals: Vec<Span>,
    /// The bytes at the end that can only be written after all others.
    pub trailer: u64,
    /// The size of the file.
    pub size: u64,
}
