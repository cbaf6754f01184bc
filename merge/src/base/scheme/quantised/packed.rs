//! Integers that compressed-tensors packs into words: `pack-quantized`, 4 or 8 bits.
//!
//! `X.weight_packed` is I32 [out, in x bits / 32], `X.weight_scale` [out, groups], and `X.weight_shape` I64 [2] has the shape.
//! There may be `X.weight_zero_point`, and `X.weight_g_idx`, which says the group of each input.

use super::companions::{beside, widened};
use crate::base::scheme::claim::{Claim, Layout, Scheme, Tensors};
use crate::tensor::Dtype;

/// The scheme.
#[derive(Debug)]
pub struct Packed;

impl Scheme for Packed {
    fn name(&self) -> &'static str {
        "compressed-tensors pack-quantized"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        let module = codes.name.strip_suffix(".weight_packed").filter(|_| codes.dtype == Dtype::I32)?;
        let also = [".weight_shape", ".weight_zero_point", ".weight_g_idx", ".input_scale", ".input_zero_point"];
        let places = beside(at, module, tensors, &[".weight_scale"], &also)?;
        // Eight codes a word: 4 bits are what is published.
        Some(Claim::new(format!("{module}.weight"), widened(&codes.shape, 8), places))
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        None
    }
}
