//! Any tensor: bytes that may be copied and are never computed with, such as masks, counters and codes.

use std::ops::Range;

use super::claim::{Claim, Scheme, Tensors};
use crate::inventory::Source;

/// The scheme.
#[derive(Debug)]
pub struct Opaque;

impl Scheme for Opaque {
    fn name(&self) -> &'static str {
        "opaque"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let tensor = tensors.at(at);
        Some(Claim { name: tensor.name.clone(), dims: tensor.shape.clone(), tensors: vec![at] })
    }

    fn rows(&self, _: &[Source], _: Range<u64>) -> Option<Vec<Range<u64>>> {
        None
    }

    fn decode(&self, _: &[Source], _: &[&[u8]], _: &mut [f32]) -> bool {
        false
    }

    fn has_values(&self) -> bool {
        false
    }
}
