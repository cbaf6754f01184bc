//! One tensor of F32, F16 or BF16: the values themselves, row by row.

use std::ops::Range;

use super::claim::{Claim, Scheme, Tensors};
use crate::inventory::Source;
use crate::tensor::DtypeExt;
use crate::tensor::float::decode;

/// The scheme.
#[derive(Debug)]
pub struct Plain;

/// Whether a tensor is of this scheme.
pub(super) fn holds(tensor: &Source) -> bool {
    tensor.dtype.fusable()
}

/// The bytes of one row of a tensor.
fn row_bytes(tensor: &Source) -> u64 {
    let cols: u64 = tensor.shape.iter().skip(1).product();
    cols * tensor.dtype.bitsize() as u64 / 8
}

impl Scheme for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let tensor = tensors.at(at);
        holds(tensor).then(|| Claim { name: tensor.name.clone(), dims: tensor.shape.clone(), tensors: vec![at] })
    }

    fn rows(&self, tensors: &[Source], rows: Range<u64>) -> Option<Vec<Range<u64>>> {
        let range = |tensor| {
            let row = row_bytes(tensor);
            rows.start * row..rows.end * row
        };
        Some(tensors.iter().map(range).collect())
    }

    fn decode(&self, tensors: &[Source], bytes: &[&[u8]], out: &mut [f32]) -> bool {
        for (tensor, bytes) in tensors.iter().zip(bytes) {
            decode(tensor.dtype, bytes, out);
        }
        true
    }

    fn has_values(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::ObjectId;
    use crate::tensor::Dtype;

    #[test]
    fn rows_are_found_and_decoded() {
        let shape = vec![4, 1, 2];
        let tensor = Source { name: "t".into(), object: ObjectId(0), offset: 64, dtype: Dtype::BF16, shape };
        let tensors = [tensor];
        let found = Plain.rows(&tensors, 1..3).unwrap();
        assert_eq!((found.len(), &found[0]), (1, &(4..12)));
        let bytes = [0x80, 0x3f, 0x00, 0xc0];
        let mut out = [0.0; 2];
        assert!(Plain.decode(&tensors, &[&bytes], &mut out));
        assert_eq!(out, [1.0, -2.0]);
    }
}
