//! The sum of the scales of a weight's blocks, in f64: bitsandbytes' double quantisation takes their mean.
//!
//! A scale is the largest magnitude of a block. torch adds scales in fp32, in an order that depends on the processor and on its number of
//! threads; a sum in f64 is the same everywhere, and next to all of those.

use serde::{Deserialize, Serialize};

use super::column_squares::BLOCK_ROWS;
use crate::tensor::float::Float;

/// How a weight falls into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scales {
    /// Values of a block.
    pub block: u64,
    /// The dtype in which the weight was loaded.
    pub from: Float,
    /// Whether blocks run down the columns: the layer has the transpose of what is stored.
    pub down: bool,
}

impl Scales {
    /// Whether no block lies in two runs of [`BLOCK_ROWS`] rows of a weight, and none in two columns if they run down.
    pub fn divide(self, rows: u64, cols: u64) -> bool {
        let run = BLOCK_ROWS as u64;
        let in_a_run = self.block > 0 && if self.down { run } else { run * cols }.is_multiple_of(self.block);
        (in_a_run || !self.down && rows <= run) && (!self.down || rows.is_multiple_of(self.block))
    }

    /// The sum of the scales of whole blocks: rows of so many columns. Not a number if a value is not finite.
    pub(super) fn sum(self, cols: u64, rows: &[f32]) -> f64 {
        let size = |value: &f32| {
            let size = self.from.nearest(*value).abs();
            if size.is_finite() { size } else { f32::NAN }
        };
        // `max` passes over what is not a number.
        let larger = |one: f32, other: f32| if one.is_nan() || other.is_nan() { f32::NAN } else { one.max(other) };
        let (block, cols) = (self.block.max(1) as usize, cols.max(1) as usize);
        if !self.down {
            let scale = |values: &[f32]| f64::from(values.iter().map(size).fold(0.0, larger));
            return rows.chunks(block).map(scale).sum();
        }
        let mut sum = 0.0;
        for rows in rows.chunks(block * cols) {
            let mut scales = vec![0.0; cols];
            for row in rows.chunks_exact(cols) {
                scales.iter_mut().zip(row).for_each(|(scale, value)| *scale = larger(*scale, size(value)));
            }
            sum = scales.iter().fold(sum, |sum, scale| sum + f64::from(*scale));
        }
        sum
    }
}

/// Joins the sums of blocks of rows, in their order.
pub(super) fn fold(sums: impl Iterator<Item = f64>) -> f64 {
    sums.fold(0.0, |all, sum| all + sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: Scales = Scales { block: 4, from: Float::F32, down: false };

    #[test]
    fn a_scale_is_the_largest_of_its_block() {
        // 3 rows of 3: the last block has one value.
        let w = [1.0, -2.0, 0.5, 0.0, 3.0, 0.0, -4.0, 1.0, 0.25];
        assert_eq!(OF.sum(3, &w), 2.0 + 4.0 + 0.25);
        let down = Scales { block: 2, down: true, ..OF };
        let w = [1.0, -2.0, 0.5, 3.0, 7.0, 0.0, 0.0, 1.0];
        assert_eq!(down.sum(2, &w), (1.0 + 3.0) + (7.0 + 1.0));
        let halves = Scales { from: Float::BF16, ..OF };
        assert_eq!(halves.sum(1, &[1.001]), 1.0, "as it was loaded");
        assert!(OF.sum(1, &[1.0, f32::INFINITY]).is_nan() && down.sum(1, &[f32::NAN, 1.0]).is_nan());
    }

    #[test]
    fn blocks_lie_in_runs_of_rows() {
        let of = |block: u64, down: bool, rows: u64, cols: u64| Scales { block, down, ..OF }.divide(rows, cols);
        assert!(of(64, false, 5000, 7) && of(4096, false, 5000, 8) && of(4096, false, 1000, 7));
        assert!(!of(4096, false, 5000, 7), "1024 x 7 is no whole number of blocks");
        assert!(of(64, true, 768, 5) && !of(64, true, 100, 5) && !of(4096, true, 4096, 5));
    }
}
