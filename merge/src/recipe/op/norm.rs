//! The norm of a row, and the gain that follows from a norm.
//!
//! DoRA (Liu et al. 2024, arXiv:2402.09353, equation 5; PEFT's `DoraLinearLayer.get_weight_norm`) divides every output of
//! a weight by its L2 norm. Addition of floats is not associative, so the order of a row's sum is fixed here; that of a
//! column's stands in [`crate::statistic::column_squares`]. All sums are in f64, where the square of an fp32 is exact.

/// Lanes of [`row_squares`]: the widest vector of f64 that any kernel uses, twice.
pub const LANES: usize = 16;

/// The sum of the squares of one row: element `j` is added to lane `j % 16` in index order, and the lanes are folded by
/// [`fold_lanes`].
#[inline(always)]
pub fn row_squares(row: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(*value) * f64::from(*value);
    }
    fold_lanes(lanes)
}

/// Folds the lanes in a fixed tree: the upper half onto the lower, until one is left.
#[inline(always)]
pub fn fold_lanes(mut lanes: [f64; LANES]) -> f64 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// DoRA's gain of one output, `m / n`, from its magnitude `m` and the sum of squares `n^2`: divided in f64, rounded once
/// to fp32.
///
/// `None` where the norm is zero or not finite, or the gain is not finite: such an output has no direction to scale.
pub fn dora_gain(magnitude: f32, sum_of_squares: f64) -> Option<f32> {
    let norm = sum_of_squares.sqrt();
    if norm == 0.0 || !norm.is_finite() {
        return None;
    }
    let gain = (f64::from(magnitude) / norm) as f32;
    gain.is_finite().then_some(gain)
}
