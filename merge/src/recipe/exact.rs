//! What the definitions in f64 have in common, for judging an output that is already there.
//!
//! f64 has 29 bits more than fp32, so against a stored fp32, fp16 or bf16 value these results stand for the true ones.
//! Nothing here decides a byte of an output, so no order is fixed. The definitions themselves stand with
//! each operation and each delta.
//!
//! Where a recipe rounds before its end, a value close to the middle of two neighbours may become either, since fp32 is
//! not exact. So each value has a doubt: how far another right result may be from it. Rounding makes doubt, the operations
//! behind it carry it on, and without a rounding it is 0.

use crate::Dtype;
use crate::tensor::float::Float;

/// fp32 keeps about seven digits: what is smaller than this part of a row's largest value is noise of the arithmetic.
pub const NOISE: f64 = 1e-5;

/// How far the noise of the arithmetic in fp32 may move a value of a row.
pub fn noise(row: &[f64]) -> f64 {
    NOISE * row.iter().fold(0.0f64, |largest, v| largest.max(v.abs()))
}

/// The absolute values: how a matrix spreads what is in doubt.
pub fn absolute(values: &[f64]) -> Vec<f64> {
    values.iter().map(|v| v.abs()).collect()
}

/// The sum of the squares of one output.
pub fn squares(output: &[f64]) -> f64 {
    output.iter().map(|v| v * v).sum()
}

/// DoRA's gain `m / n` of one output; `None` as [`super::op::norm::dora_gain`].
pub fn dora_gain(magnitude: f64, sum_of_squares: f64) -> Option<f64> {
    let norm = sum_of_squares.sqrt();
    let gain = magnitude / norm;
    (norm != 0.0 && norm.is_finite() && gain.is_finite()).then_some(gain)
}

/// How far a gain may be off, from the sum of the squares of its output and that of the output's doubts. A norm is off by
/// the norm of the doubts at the most, and the gain by the same part of itself.
pub fn gain_doubt(gain: f64, sum_of_squares: f64, doubts: f64) -> f64 {
    if doubts == 0.0 { 0.0 } else { gain.abs() * (doubts / sum_of_squares).sqrt() }
}

/// The value of a dtype that is nearest to `value`, ties to even. Infinite where the dtype cannot hold it.
pub fn nearest(to: Float, value: f64) -> f64 {
    let largest = match to {
        Float::F32 => f64::from(f32::MAX),
        Float::F16 => 65504.0,
        Float::BF16 => f64::from(f32::from_bits(0x7F7F_0000)),
    };
    let ulp = ulp(to, value);
    let rounded = (value / ulp).round_ties_even() * ulp;
    if rounded.abs() > largest { f64::INFINITY.copysign(value) } else { rounded }
}

/// How far a stored value is from the exact one, in units in the last place of `dtype` at the exact value: 0.5 at most
/// for a result that was rounded once from the exact one. Infinite if either is not finite.
///
/// # Panics
/// If `dtype` is not F32, F16 or BF16.
pub fn ulp_error(dtype: Dtype, stored: f32, exact: f64) -> f64 {
    let Some(float) = Float::of(dtype) else { panic!("{dtype} is not a dtype that can be fused") };
    if !stored.is_finite() || !exact.is_finite() {
        return f64::INFINITY;
    }
    (f64::from(stored) - exact).abs() / ulp(float, exact)
}

/// The distance of neighbours of a dtype at `value`.
fn ulp(of: Float, value: f64) -> f64 {
    let (precision, lowest) = match of {
        Float::F32 => (24, -126),
        Float::F16 => (11, -14),
        Float::BF16 => (8, -126),
    };
    // The exponent field alone: zero and f64's own subnormals read as far below `lowest`, where the spacing is constant.
    let exponent = ((value.to_bits() >> 52) & 0x7FF) as i32 - 1023;
    2.0_f64.powi(exponent.max(lowest) - (precision - 1))
}
