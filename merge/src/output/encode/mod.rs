//! Encodings: how the values of a tensor become bytes, block by block.
//!
//! A block has a fixed number of elements and of bytes. F32, F16 and BF16 have blocks of one element.

use crate::error::{Error, Kind, Result};
use crate::tensor::{Dtype, DtypeExt};

/// The unit in which an encoding stores elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The elements of a block.
    pub elements: u64,
    /// The bytes that they take.
    pub bytes: u64,
}

impl Block {
    /// The block of an element type: as few elements as fill whole bytes.
    pub fn of(dtype: Dtype) -> Block {
        let bits = dtype.bitsize() as u64;
        // The greatest power of two that divides both the bits of an element and of a byte.
        let common = 1 << bits.trailing_zeros().min(3);
        Block { elements: 8 / common, bytes: bits / common }
    }

    /// The bytes of so many elements; `None` if they do not fill whole blocks, or are too many.
    pub fn bytes_of(self, elements: u64) -> Option<u64> {
        elements.is_multiple_of(self.elements).then(|| (elements / self.elements).checked_mul(self.bytes)).flatten()
    }
}

/// The bytes of a tensor.
///
/// # Errors
/// `unsupported`, with the tensor's name, if its elements do not fill whole blocks.
pub fn length(name: &str, dtype: Dtype, dims: &[u64]) -> Result<u64> {
    bytes(dtype, dims).ok_or_else(|| {
        let text = format!("tensor {name} ({} {dims:?}) does not fill whole bytes", dtype.name());
        Error::new(Kind::Unsupported, text)
    })
}

/// The bytes of a tensor; `None` if its elements do not fill whole blocks, or are too many.
pub fn bytes(dtype: Dtype, dims: &[u64]) -> Option<u64> {
    let elements = dims.iter().try_fold(1u64, |n, d| n.checked_mul(*d))?;
    Block::of(dtype).bytes_of(elements)
}

/// Encodes fp32 values, rounded once, to nearest even. The index of the first value that is not finite as it is stored.
///
/// # Panics
/// If `out` does not hold exactly the blocks of `values`, or the type is not F32, F16 or BF16.
pub fn encode(dtype: Dtype, values: &[f32], out: &mut [u8]) -> Option<usize> {
    crate::tensor::float::encode(dtype, values, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::header::tensor_bytes;

    #[test]
    fn floats_have_blocks_of_one_element() {
        for (dtype, bytes) in [(Dtype::F32, 4), (Dtype::F16, 2), (Dtype::BF16, 2)] {
            assert_eq!(Block::of(dtype), Block { elements: 1, bytes });
        }
    }

    #[test]
    fn types_below_a_byte_have_blocks_that_fill_whole_bytes() {
        assert_eq!(Block::of(Dtype::F4), Block { elements: 2, bytes: 1 });
        assert_eq!(Block::of(Dtype::F6_E2M3), Block { elements: 4, bytes: 3 });
        for dtype in [Dtype::F4, Dtype::F6_E2M3, Dtype::F8_E8M0, Dtype::I64] {
            for dims in [&[][..], &[0], &[3], &[4, 3], &[u64::MAX, 2]] {
                assert_eq!(bytes(dtype, dims), tensor_bytes(dtype, dims), "{dtype} {dims:?}");
            }
        }
        assert!(length("t", Dtype::F4, &[3]).unwrap_err().message().contains("tensor t (F4 [3])"));
    }
}
