//! The sum of the squares of each column, in f64: what DoRA needs where each output is a column.
//!
//! Addition of floats is not associative, so blocks of rows, the order within them and the order of the fold are fixed.
//! The square of an fp32 is exact in f64.

/// Rows of a block of [`add_column_squares`]. Blocks are anchored at row 0 of the tensor, and the work is cut among
/// workers on blocks only.
pub const BLOCK_ROWS: usize = 1024;

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
