//! What the definitions in f64 have in common, for judging an output that is already there.
//!
//! f64 has 29 bits more than fp32, so against a stored fp32, fp16 or bf16 value these results stand for the true ones.
//! Nothing here decides a byte of an output, so no order is fixed. The definitions themselves stand with
//! each operation and each delta.

use crate::Dtype;

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

/// How far a stored value is from the exact one, in units in the last place of `dtype` at the exact value: 0.5 at most
/// for a result that was rounded once from the exact one. Infinite if either is not finite.
///
/// # Panics
/// If `dtype` is not F32, F16 or BF16.
pub fn ulp_error(dtype: Dtype, stored: f32, exact: f64) -> f64 {
    let (precision, lowest) = match dtype {
        Dtype::F32 => (24, -126),
        Dtype::F16 => (11, -14),
        Dtype::BF16 => (8, -126),
        other => panic!("{other} is not a dtype that can be fused"),
    };
    if !stored.is_finite() || !exact.is_finite() {
        return f64::INFINITY;
    }
    // The exponent field alone: zero and f64's own subnormals read as far below `lowest`, where the spacing is constant.
    let exponent = ((exact.to_bits() >> 52) & 0x7FF) as i32 - 1023;
    let ulp = 2.0_f64.powi(exponent.max(lowest) - (precision - 1));
    (f64::from(stored) - exact).abs() / ulp
}
