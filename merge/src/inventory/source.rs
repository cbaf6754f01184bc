//! Input objects, and the tensors in them.

use serde::{Deserialize, Serialize};

use crate::tensor::Dtype;

/// An input object by its number in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId(pub u32);

/// An input object and what it is held to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Object {
    /// Where it lies.
    pub url: String,
    /// Its size in bytes.
    pub size: u64,
    /// The store's pin.
    pub pin: String,
    /// BLAKE3 of what was read of it for planning (header or whole configuration), as hex.
    pub seen: String,
}

/// A tensor in an input object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The tensor's name in its checkpoint.
    pub name: String,
    /// The object.
    pub object: ObjectId,
    /// The first byte in the object.
    pub offset: u64,
    /// The element type.
    pub dtype: Dtype,
    /// The shape.
    pub shape: Vec<u64>,
}

impl Source {
    /// The number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// The length in bytes.
    pub fn bytes(&self) -> u64 {
        self.elements() * self.dtype.bitsize() as u64 / 8
    }

    /// Rows of it, as a tensor of their own; `None` if it does not have them, or they do not begin with a byte.
    pub fn rows(&self, first: u64, count: u64) -> Option<Source> {
        let (rows, rest) = self.shape.split_first()?;
        if first.checked_add(count)? > *rows {
            return None;
        }
        let bits = rest.iter().product::<u64>() * self.dtype.bitsize() as u64;
        let skipped = first * bits;
        if !skipped.is_multiple_of(8) || !(count * bits).is_multiple_of(8) {
            return None;
        }
        let shape = std::iter::once(count).chain(rest.iter().copied()).collect();
        Some(Source { offset: self.offset + skipped / 8, shape, ..self.clone() })
    }
}
