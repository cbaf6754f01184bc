//! The same merge in f64, for judging an output that is already there.
//!
//! f64 has 29 bits more than fp32, so against a stored fp32, fp16 or bf16 value these results stand for the true ones.
//! Nothing here decides a byte of an output: it need not keep a fixed order, only be right.

use crate::Dtype;

/// Adds a scaled low-rank product to one row: `w += scale * (left @ right)`.
///
/// Shapes: `w` is `cols` long, `left` is one row of the left factor, `rank` long, `right` is rank x cols, row-major.
///
/// # Panics
/// If `right` is not `left.len()` x `w.len()`.
pub fn low_rank_row(w: &mut [f64], left: &[f64], right: &[f64], scale: f64) {
    assert_eq!(right.len(), left.len() * w.len(), "right factor, {} x {}", left.len(), w.len());
    if w.is_empty() {
        return;
    }
    let mut sum = vec![0.0; w.len()];
    for (left, right) in left.iter().zip(right.chunks_exact(w.len())) {
        for (sum, right) in sum.iter_mut().zip(right) {
            *sum += left * right;
        }
    }
    for (w, sum) in w.iter_mut().zip(sum) {
        *w += scale * sum;
    }
}

/// The sum of the squares of one output.
pub fn squares(output: &[f64]) -> f64 {
    output.iter().map(|v| v * v).sum()
}

/// DoRA's gain `m / n` of one output; `None` as [`super::norm::dora_gain`].
pub fn dora_gain(magnitude: f64, sum_of_squares: f64) -> Option<f64> {
    let norm = sum_of_squares.sqrt();
    let gain = magnitude / norm;
    (norm != 0.0 && norm.is_finite() && gain.is_finite()).then_some(gain)
}

/// DoRA on one row that is one output: `v = (m / n) * v`. Returns false, and leaves the row, where there is no gain.
pub fn dora_row(v: &mut [f64], magnitude: f64) -> bool {
    let Some(gain) = dora_gain(magnitude, squares(v)) else { return false };
    for v in v {
        *v *= gain;
    }
    true
}

/// DoRA on one row across the outputs, where each output is a column: every element takes its column's gain.
///
/// # Panics
/// If there is not one gain an element.
pub fn dora_columns(row: &mut [f64], gains: &[f64]) {
    assert_eq!(row.len(), gains.len(), "one gain a column");
    for (v, gain) in row.iter_mut().zip(gains) {
        *v *= gain;
    }
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
