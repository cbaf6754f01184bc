//! Parts that are put together from pieces, some of which the store copies by itself.

use std::ops::Range;

use bytes::Bytes;

use crate::id::Pin;
use crate::location::Location;

/// A piece of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// These bytes.
    Bytes(Bytes),
    /// Bytes that another object has already. They do not pass through this process.
    Copy {
        /// The other object.
        from: Location,
        /// Which of its bytes.
        range: Range<u64>,
        /// The version that it must be.
        pin: Pin,
    },
}

impl Chunk {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Chunk::Bytes(bytes) => bytes.len() as u64,
            Chunk::Copy { range, .. } => range.end.saturating_sub(range.start),
        }
    }

    /// How many bytes of a part are put, and how many the store copies.
    pub fn sums(chunks: &[Chunk]) -> (u64, u64) {
        chunks.iter().fold((0, 0), |(put, copied), chunk| match chunk {
            Chunk::Bytes(_) => (chunk.length().saturating_add(put), copied),
            Chunk::Copy { .. } => (put, chunk.length().saturating_add(copied)),
        })
    }
}

/// What a store can put into a part of an upload by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Nothing. The caller reads the bytes and puts them.
    None {
        /// A short reason, for people.
        why: String,
    },
    /// A whole part that is one range of one object.
    Parts {
        /// The most bytes of such a part.
        max: u64,
    },
    /// Any pieces of a part.
    Pieces {
        /// The store shares blocks of this many bytes, where the offsets of both sides are congruent modulo that. Other bytes it
        /// copies.
        block: u64,
    },
}

impl Copies {
    /// Nothing, for this reason.
    pub fn none(why: impl Into<String>) -> Self {
        Self::None { why: why.into() }
    }
}
