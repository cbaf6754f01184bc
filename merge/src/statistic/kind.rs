//! The kinds of statistics: what a block's state is, and what the states give.

use serde::{Deserialize, Serialize};

use super::column_squares;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::op::NoNorm;
use crate::recipe::op::norm::dora_gain;

/// What is reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The sum of the squares of each column.
    ColumnSquares,
}

impl Kind {
    /// Rows of a block.
    pub const fn block_rows(self) -> u64 {
        match self {
            Kind::ColumnSquares => column_squares::BLOCK_ROWS as u64,
        }
    }

    /// Bytes of a block's state, and of the value, over `cols` columns.
    pub fn bytes(self, cols: u64) -> u64 {
        match self {
            Kind::ColumnSquares => cols.saturating_mul(8),
        }
    }

    /// The state of a block: all of its rows, of `cols` columns each.
    pub fn accumulate(self, arithmetic: &impl Arithmetic, cols: u64, block: &[f32]) -> Vec<u8> {
        match self {
            Kind::ColumnSquares => {
                let mut sums = vec![0.0; cols as usize];
                arithmetic.add_column_squares(&mut sums, block);
                to_bytes(&sums)
            }
        }
    }

    /// Folds the states of all blocks, given in block order, into the value.
    ///
    /// # Panics
    /// If a state does not have [`Self::bytes`] bytes.
    pub fn fold<'a>(self, cols: u64, states: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        match self {
            Kind::ColumnSquares => {
                let sums: Vec<Vec<f64>> = states.into_iter().map(numbers).collect();
                to_bytes(&column_squares::fold_blocks(cols as usize, sums.iter().map(Vec::as_slice)))
            }
        }
    }

    /// What an operand's values become by the value of the statistic: for squares of columns, each magnitude over the norm of
    /// its column.
    ///
    /// # Errors
    /// If a column has no norm to divide by. `tensor` names the operand.
    pub fn derive(self, tensor: &str, values: &[f32], statistic: &[f64]) -> Result<Vec<f32>, NoNorm> {
        match self {
            Kind::ColumnSquares => values
                .iter()
                .zip(statistic)
                .enumerate()
                .map(|(output, (magnitude, squares))| {
                    dora_gain(*magnitude, *squares).ok_or_else(|| NoNorm {
                        tensor: tensor.to_owned(),
                        output: output as u64,
                        norm: squares.sqrt(),
                    })
                })
                .collect(),
        }
    }
}

/// The numbers of a state or value, little-endian f64.
pub fn numbers(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
}

/// The bytes of a state or value.
pub fn to_bytes(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}
