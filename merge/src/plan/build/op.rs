//! The operations of recipes, each made in one place.

use crate::adapter::delta::{Delta, Factors};
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::{DoraNorm, Factor, LowRank, Norm, Op};

/// `w += delta`.
pub(super) fn add(delta: LowRank) -> Op {
    Op::Add(delta)
}

/// `w = (magnitude / norm) * (w + delta)`.
pub(super) fn dora(delta: LowRank, magnitude: Source, norm: Norm, of: DoraNorm) -> Op {
    Op::Dora { delta, magnitude, norm, of }
}

/// `w += scale * source`.
pub(super) fn add_scaled(source: Source, scale: f32) -> Op {
    Op::AddScaled { source, scale }
}

/// `w[rows[i], :] = source[i, :]`.
pub(super) fn set_rows(rows: Vec<u64>, source: Source) -> Op {
    Op::SetRows { rows, source }
}

/// A delta as it is laid onto a weight. `by_columns` tells that the weight is stored as [in, out]: the delta is then
/// (B @ A)^T = A^T @ B^T.
pub(super) fn delta(delta: Delta, by_columns: bool, scale: f32) -> LowRank {
    let Factors::LowRank { a, b } = delta.factors;
    let (left, right) = if by_columns { (a, b) } else { (b, a) };
    let factor = |source| Factor { source, transposed: by_columns };
    LowRank { left: factor(left), right: factor(right), rank: delta.rank, scale }
}

/// The scale of a delta: the adapter's own times its weight, in fp32.
///
/// # Errors
/// If fp32 cannot hold it.
pub(super) fn scale(module: &str, own: f64, weight: f64) -> Result<f32> {
    let product = own * weight;
    let rounded = product as f32;
    if rounded.is_finite() {
        return Ok(rounded);
    }
    Err(Error::new(
        Kind::BadConfig,
        format!("the delta of {module} would be scaled by {product:e} (alpha and rank give {own:e}, the weight is {weight:e}), which is not finite in fp32"),
    )
    .hint("check lora_alpha and alpha_pattern in adapter_config.json, and the weight"))
}
