//! Sums of squares for DoRA, in a shape that does not depend on how a tensor was cut.
//!
//! DoRA (Liu et al. 2024, arXiv:2402.09353, equation 5; PEFT's `DoraLinearLayer.get_weight_norm`) divides every output of
//! a weight by its L2 norm. Addition of floats is not associative, so the order is fixed here, once for outputs that are
//! rows and once for outputs that are columns. All sums are in f64, where the square of an fp32 is exact.

/// Lanes of [`row_squares`]: the widest vector of f64 that any kernel uses, twice.
pub const LANES: usize = 16;

/// Rows of a block of [`add_column_squares`]. Blocks are anchored at row 0 of the tensor, and a tensor's measuring is cut
/// among workers on blocks only.
pub const BLOCK_ROWS: usize = 1024;

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

/// Adds the squares of a tile to the sums of its columns, row after row. `tile` is rows x `acc.len()`.
///
/// Within a block of [`BLOCK_ROWS`] rows a tile may follow a tile; each block starts from zeros, and [`fold_blocks`] joins
/// them.
///
/// # Panics
/// If `tile` is not whole rows.
#[inline(always)]
pub fn add_column_squares(acc: &mut [f64], tile: &[f32]) {
    if acc.is_empty() {
        assert!(tile.is_empty(), "{} elements in rows of 0", tile.len());
        return;
    }
    assert_eq!(tile.len() % acc.len(), 0, "{} elements in rows of {}", tile.len(), acc.len());
    for row in tile.chunks_exact(acc.len()) {
        for (acc, value) in acc.iter_mut().zip(row) {
            *acc += f64::from(*value) * f64::from(*value);
        }
    }
}

/// Joins the column sums of blocks, given in block order: `total = ((b0 + b1) + b2) + ...` for each column.
///
/// # Panics
/// If a block has not `cols` sums.
pub fn fold_blocks<'a>(cols: usize, blocks: impl IntoIterator<Item = &'a [f64]>) -> Vec<f64> {
    // Starting from zero changes nothing: a sum of squares is never -0.0.
    let mut total = vec![0.0; cols];
    for block in blocks {
        assert_eq!(block.len(), cols, "one sum a column");
        for (total, sum) in total.iter_mut().zip(block) {
            *total += sum;
        }
    }
    total
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
