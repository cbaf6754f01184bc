//! What every way to make matrices provides.

use crate::recipe::operand::Operand;
use crate::recipe::tile::NoResult;

/// How many matrices there are, and how large each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How many they are.
    pub count: u64,
    /// Rows of each.
    pub rows: u64,
    /// Columns of each.
    pub cols: u64,
}

impl Size {
    /// One matrix.
    pub fn one(rows: u64, cols: u64) -> Size {
        Size { count: 1, rows, cols }
    }

    /// Elements of all of them.
    pub fn elements(self) -> u64 {
        self.count.saturating_mul(self.rows).saturating_mul(self.cols)
    }
}

/// What every way to make matrices provides.
pub trait Definition {
    /// What it reads, all of each. The values are passed in this order.
    fn operands(&self) -> Vec<&Operand>;
    /// The operand whose numbers are places: they may be stored as integers.
    fn places(&self) -> Option<&Operand> {
        None
    }
    /// What it gives.
    ///
    /// # Errors
    /// If the operands do not fit each other, naming them.
    fn size(&self) -> Result<Size, String>;
    /// The definition: all matrices, one after another, row-major. The operands fit each other.
    ///
    /// # Errors
    /// If a vector that is divided by its norm has none, or a stored place is none.
    fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult>;
    /// Multiply-adds that making them takes, about.
    fn effort(&self) -> u64;
}

/// `left @ right` in f64: each element's products are added in increasing order. left [rows, inner], right [inner, cols].
pub fn product(left: &[f64], right: &[f64], inner: usize, cols: usize) -> Vec<f64> {
    let mut out = vec![0.0; left.len() / inner.max(1) * cols];
    for (out, left) in out.chunks_exact_mut(cols.max(1)).zip(left.chunks_exact(inner.max(1))) {
        for (left, right) in left.iter().zip(right.chunks_exact(cols.max(1))) {
            for (out, right) in out.iter_mut().zip(right) {
                *out += left * right;
            }
        }
    }
    out
}
