//! The primitives of the fp32 arithmetic, element by element, and the trait behind which faster ones stand.
//!
//! These functions are not fast and need not be: they say what the bits are. A kernel may tile, vectorise and reorder
//! *elements* as it likes, and must keep the order of the operations that lead to each one.

use super::op::norm::row_squares;
use crate::statistic::column_squares::add_column_squares;
use crate::tensor::float::Float;

/// The primitives that recipes are made of. [`Plain`] defines them; every other implementation must give the same bits.
///
/// Matrices are row-major slices. Slices whose lengths do not fit each other are a defect of the caller, and panic.
pub trait Arithmetic {
    /// A right factor, `[rank, cols]`, as it multiplies fastest.
    type Right;

    /// As [`low_rank`].
    fn low_rank(&self, w: &mut [f32], left: &[f32], right: &Self::Right, scale: f32);
    /// As [`add_scaled`].
    fn add_scaled(&self, w: &mut [f32], delta: &[f32], scale: f32);
    /// As [`add_product`].
    fn add_product(&self, w: &mut [f32], a: &[f32], b: &[f32], scale: f32);
    /// As [`scale_row`].
    fn scale_row(&self, row: &mut [f32], gain: f32);
    /// As [`scale_columns`].
    fn scale_columns(&self, tile: &mut [f32], cols: usize, gains: &[f32]);
    /// As [`round`].
    fn round(&self, w: &mut [f32], to: Float) -> Option<usize>;
    /// As [`row_squares`].
    fn row_squares(&self, row: &[f32]) -> f64;
    /// As [`add_column_squares`].
    fn add_column_squares(&self, sums: &mut [f64], tile: &[f32]);
}

/// The definition.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

/// A right factor in plain order, `[rank, cols]`.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainRight {
    /// The values, row-major.
    pub values: Vec<f32>,
    /// The inner dimension.
    pub rank: usize,
    /// Columns.
    pub cols: usize,
}

impl Arithmetic for Plain {
    type Right = PlainRight;

    fn low_rank(&self, w: &mut [f32], left: &[f32], right: &PlainRight, scale: f32) {
        low_rank(w, right.cols, left, &right.values, right.rank, scale);
    }

    fn add_scaled(&self, w: &mut [f32], delta: &[f32], scale: f32) {
        add_scaled(w, delta, scale);
    }

    fn add_product(&self, w: &mut [f32], a: &[f32], b: &[f32], scale: f32) {
        add_product(w, a, b, scale);
    }

    fn scale_row(&self, row: &mut [f32], gain: f32) {
        scale_row(row, gain);
    }

    fn scale_columns(&self, tile: &mut [f32], cols: usize, gains: &[f32]) {
        scale_columns(tile, cols, gains);
    }

    fn round(&self, w: &mut [f32], to: Float) -> Option<usize> {
        round(w, to)
    }

    fn row_squares(&self, row: &[f32]) -> f64 {
        row_squares(row)
    }

    fn add_column_squares(&self, sums: &mut [f64], tile: &[f32]) {
        add_column_squares(sums, tile);
    }
}

/// Adds a scaled low-rank product to a weight: `W += scale * (left @ right)`, the LoRA merge (Hu et al. 2021,
/// arXiv:2106.09685, section 4.1; PEFT's `get_delta_weight`), with every rounding spelled out.
///
/// Shapes: `w` is rows x `cols`, `left` is rows x `rank` (LoRA's B), `right` is `rank` x `cols` (LoRA's A); `scale` is
/// the adapter's whole factor, alpha / rank times its weight. For each element, with `k` increasing from 0:
///
/// ```text
/// sum = 0;  sum = fma(left[i, k], right[k, j], sum);  w = fma(scale, sum, w)
/// ```
///
/// # Panics
/// If the lengths do not fit the shapes.
pub fn low_rank(w: &mut [f32], cols: usize, left: &[f32], right: &[f32], rank: usize, scale: f32) {
    assert_eq!(right.len(), rank * cols, "right factor, {rank} x {cols}");
    if cols == 0 {
        assert!(w.is_empty(), "{} elements in rows of 0", w.len());
        return;
    }
    assert_eq!(w.len() % cols, 0, "{} elements in rows of {cols}", w.len());
    assert_eq!(left.len(), w.len() / cols * rank, "left factor, {} x {rank}", w.len() / cols);
    for (i, row) in w.chunks_exact_mut(cols).enumerate() {
        let left = &left[i * rank..(i + 1) * rank];
        for (j, w) in row.iter_mut().enumerate() {
            let mut sum = 0.0_f32;
            for (k, left) in left.iter().enumerate() {
                sum = left.mul_add(right[k * cols + j], sum);
            }
            *w = scale.mul_add(sum, *w);
        }
    }
}

/// Adds a scaled delta that is already full: `w = fma(scale, delta, w)` for each element. For deltas that are not low-rank
/// products, and for biases.
///
/// # Panics
/// If the lengths differ.
#[inline(always)]
pub fn add_scaled(w: &mut [f32], delta: &[f32], scale: f32) {
    assert_eq!(w.len(), delta.len(), "weight and delta");
    for (w, delta) in w.iter_mut().zip(delta) {
        *w = scale.mul_add(*delta, *w);
    }
}

/// Adds a scaled product of two matrices, element by element: `w = fma(scale, a * b, w)`, the product rounded first. LoHa's
/// delta (Hyeon-Woo et al. 2021, arXiv:2108.06098).
///
/// # Panics
/// If the lengths differ.
#[inline(always)]
pub fn add_product(w: &mut [f32], a: &[f32], b: &[f32], scale: f32) {
    assert!(w.len() == a.len() && w.len() == b.len(), "{}, {} and {} elements", w.len(), a.len(), b.len());
    for ((w, a), b) in w.iter_mut().zip(a).zip(b) {
        *w = scale.mul_add(a * b, *w);
    }
}

/// Multiplies a row by its gain. With [`super::op::norm::dora_gain`] this is DoRA's last step, `W' = (m / n) * V`, where each
/// output is a row.
#[inline(always)]
pub fn scale_row(row: &mut [f32], gain: f32) {
    for w in row {
        *w *= gain;
    }
}

/// Multiplies each column of a rows x `cols` tile by its gain: DoRA where each output is a column (a transposed layer, an
/// embedding).
///
/// # Panics
/// If there is not one gain a column, or `tile` is not whole rows.
#[inline(always)]
pub fn scale_columns(tile: &mut [f32], cols: usize, gains: &[f32]) {
    assert_eq!(gains.len(), cols, "one gain a column");
    if cols == 0 {
        return;
    }
    assert_eq!(tile.len() % cols, 0, "{} elements in rows of {cols}", tile.len());
    for row in tile.chunks_exact_mut(cols) {
        for (w, gain) in row.iter_mut().zip(gains) {
            *w *= gain;
        }
    }
}

/// Rounds each element to a narrower float, to nearest even, and back to fp32: what it is once it was saved and loaded.
///
/// Stops at the first element that is not finite then, gives its index, and leaves it as it is. What becomes of the others
/// has no meaning, since nothing is done with them.
pub fn round(w: &mut [f32], to: Float) -> Option<usize> {
    for (at, w) in w.iter_mut().enumerate() {
        let rounded = to.nearest(*w);
        if !rounded.is_finite() {
            return Some(at);
        }
        *w = rounded;
    }
    None
}

/// Whether no element is NaN or infinite.
#[inline(always)]
pub fn all_finite(values: &[f32]) -> bool {
    // Block by block: a branch an element cannot be vectorised, and none at all would read on past the answer.
    values.chunks(SCAN).all(|block| !block.iter().fold(false, |bad, v| bad | !v.is_finite()))
}

/// Whether every element is a zero of either sign.
#[inline(always)]
pub fn all_zero(values: &[f32]) -> bool {
    values.chunks(SCAN).all(|block| !block.iter().fold(false, |found, v| found | (*v != 0.0)))
}

const SCAN: usize = 1024;
