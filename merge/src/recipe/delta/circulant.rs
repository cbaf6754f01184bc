//! Blocks whose rows are one row, each turned by one place more: C3A (Chen et al. 2024, arXiv:2407.19342).

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::inventory::Source;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::made::{Made, Matrices, Size};
use crate::recipe::operand::{Input, Value};
use crate::recipe::tile::{ExactRows, Tile};

/// `delta[i, j] = scale * kernel[i / side, j / side * side + (j - i) mod side]`
/// ([`add_scaled`](crate::recipe::arithmetic::add_scaled)).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Circulant {
    /// [rows / side, columns].
    pub kernel: Made,
    /// Rows and columns of a block.
    pub side: u64,
    /// The scale times the adapter's weight, rounded to fp32 once.
    pub scale: f32,
}

impl Circulant {
    fn size(&self) -> Size {
        self.kernel.size().unwrap_or(Size::one(1, 1))
    }

    /// Row `row` of the delta, all columns.
    fn row<T: Copy>(&self, kernel: &[T], row: u64) -> Vec<T> {
        let (side, cols) = (self.side as usize, self.size().cols as usize);
        let mut values = kernel[(row / self.side) as usize * cols..][..cols].to_vec();
        values.chunks_exact_mut(side).for_each(|block| block.rotate_right((row % self.side) as usize));
        values
    }
}

impl Definition for Circulant {
    fn inputs(&self) -> Vec<Input<'_>> {
        Vec::new()
    }

    fn matrices(&self) -> Vec<Matrices<'_>> {
        vec![Matrices::plain(&self.kernel)]
    }

    fn fits(&self, rows: u64, cols: u64) -> Result<(), String> {
        let (size, side) = (self.kernel.size()?, self.side);
        let square = side > 0 && cols.is_multiple_of(side);
        if square && size.count == 1 && size.rows.checked_mul(side) == Some(rows) && size.cols == cols {
            return Ok(());
        }
        Err(format!("{size:?} gives no circulant blocks of {side} x {side} for {rows} x {cols}"))
    }

    fn scale(&self) -> f32 {
        self.scale
    }

    fn inner(&self) -> Vec<(&Source, u64, u64)> {
        Vec::new()
    }

    fn add<A: Arithmetic>(&self, arithmetic: &A, tile: &mut Tile<'_>, values: &[Value<'_, A::Right>]) {
        let (kernel, column) = (values[0].plain(), tile.column as usize);
        for (w, i) in tile.w.chunks_exact_mut(tile.cols).zip(tile.first..) {
            arithmetic.add_scaled(w, &self.row(kernel, i)[column..column + tile.cols], self.scale);
        }
    }

    fn exact(&self, tile: &mut ExactRows<'_>, values: &[&[f64]]) {
        let (side, cols) = (self.side, self.size().cols);
        for (w, i) in tile.w.chunks_exact_mut(tile.cols).zip(tile.rows) {
            for (w, j) in w.iter_mut().zip(tile.column..) {
                let at = i / side * cols + j / side * side + (j % side + side - i % side) % side;
                *w += f64::from(self.scale) * values[0][at as usize];
            }
        }
    }

    fn cost(&self) -> u64 {
        2
    }
}
