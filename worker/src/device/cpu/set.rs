//! What one instruction set provides.

use shardfuse_merge::Dtype;

use super::pack::Line;

/// The functions of one instruction set.
///
/// They are `unsafe` to call for one reason: the CPU must have what the set needs. A `Set` leaves this module only inside
/// a [`Kernels`], after that was asked.
pub(super) struct Set {
    pub(super) name: &'static str,
    /// Rows of W that `strip` takes at most.
    pub(super) rows: usize,
    pub(super) strip: unsafe fn(Strip<'_>),
    pub(super) decode: unsafe fn(Dtype, &[u8], &mut [f32]),
    pub(super) encode: unsafe fn(Dtype, &[f32], &mut [u8]) -> Option<usize>,
    pub(super) shared: Shared,
}

/// The functions that are the definition's own loops, compiled for a set.
pub(super) struct Shared {
    pub(super) row_squares: unsafe fn(&[f32]) -> f64,
    pub(super) add_column_squares: unsafe fn(&mut [f64], &[f32]),
    pub(super) scale_row: unsafe fn(&mut [f32], f32),
    pub(super) scale_columns: unsafe fn(&mut [f32], usize, &[f32]),
    pub(super) add_scaled: unsafe fn(&mut [f32], &[f32], f32),
    pub(super) add_product: unsafe fn(&mut [f32], &[f32], &[f32], f32),
    pub(super) all_finite: unsafe fn(&[f32]) -> bool,
    pub(super) all_zero: unsafe fn(&[f32]) -> bool,
}

/// One step of a low-rank update: a few rows of W against a run of whole panels.
pub(super) struct Strip<'a> {
    /// The rows, `stride` apart; each is written in its first `panels.len() / rank * 16` elements.
    pub(super) w: &'a mut [f32],
    pub(super) stride: usize,
    /// As many rows of the left factor, `rank` long; one at least.
    pub(super) left: &'a [f32],
    /// Whole panels: panel `p`, step `k` at `p * rank + k`.
    pub(super) panels: &'a [Line],
    /// At least 1.
    pub(super) rank: usize,
    pub(super) scale: f32,
}

/// Compiles the definition's loops for a set of target features, as a constant `SHARED`.
macro_rules! compiled_for {
    ($($features:literal)?) => {
        pub(super) const SHARED: super::set::Shared = {
            use shardfuse_merge::recipe::{arithmetic, op::norm};
            use shardfuse_merge::statistic::column_squares;
            $(#[target_feature(enable = $features)])?
            fn row_squares(row: &[f32]) -> f64 {
                norm::row_squares(row)
            }
            $(#[target_feature(enable = $features)])?
            fn add_column_squares(acc: &mut [f64], tile: &[f32]) {
                column_squares::add_column_squares(acc, tile);
            }
            $(#[target_feature(enable = $features)])?
            fn scale_row(row: &mut [f32], gain: f32) {
                arithmetic::scale_row(row, gain);
            }
            $(#[target_feature(enable = $features)])?
            fn scale_columns(tile: &mut [f32], cols: usize, gains: &[f32]) {
                arithmetic::scale_columns(tile, cols, gains);
            }
            $(#[target_feature(enable = $features)])?
            fn add_scaled(w: &mut [f32], delta: &[f32], scale: f32) {
                arithmetic::add_scaled(w, delta, scale);
            }
            $(#[target_feature(enable = $features)])?
            fn add_product(w: &mut [f32], a: &[f32], b: &[f32], scale: f32) {
                arithmetic::add_product(w, a, b, scale);
            }
            $(#[target_feature(enable = $features)])?
            fn all_finite(values: &[f32]) -> bool {
                arithmetic::all_finite(values)
            }
            $(#[target_feature(enable = $features)])?
            fn all_zero(values: &[f32]) -> bool {
                arithmetic::all_zero(values)
            }
            super::set::Shared {
                row_squares,
                add_column_squares,
                scale_row,
                scale_columns,
                add_scaled,
                add_product,
                all_finite,
                all_zero,
            }
        };
    };
}
pub(super) use compiled_for;
