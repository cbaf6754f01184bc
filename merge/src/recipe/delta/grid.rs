//! Products in a grid of blocks: GraLoRA (Jung et al. 2025, arXiv:2505.20355), and a product of two factors that are made: DeLoRA.

use serde::{Deserialize, Serialize};

use super::definition::{Definition, exact_product};
use crate::inventory::Source;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::made::{Made, Matrices};
use crate::recipe::operand::{Input, Value};
use crate::recipe::tile::{ExactRows, Tile};

/// The delta is `side` x `side` blocks. Block (k, n) is `scale * left @ right`, with the rows of block row k of `left`, its columns
/// `n * rank .. (n + 1) * rank`, and matrix `k * side + n` of `right`
/// (`n * side + k` where they follow down the columns of blocks).
///
/// In fp32 each block is one [`low_rank`](crate::recipe::arithmetic::low_rank).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// [rows, side * rank], as one matrix or several below each other.
    pub left: Made,
    /// `side * side` matrices of [rank, columns / side].
    pub right: Made,
    /// Blocks in each direction.
    pub side: u64,
    /// Whether the matrices of `right` follow each other down the columns of blocks, and not along their rows.
    pub down: bool,
    /// The scale times the adapter's weight, rounded to fp32 once.
    pub scale: f32,
}

/// What one product adds to.
struct Block {
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    /// The block's place along a row.
    n: usize,
    right: usize,
}

impl Grid {
    /// The product of two matrices: one block.
    pub fn product(left: Made, right: Made) -> Grid {
        Grid { left, right, side: 1, down: false, scale: 1.0 }
    }

    /// Rank and columns of a right matrix, and rows of a block.
    fn size(&self) -> (usize, usize, usize) {
        let right = self.right.size().map_or((1, 1), |size| (size.rows as usize, size.cols as usize));
        let rows = self.left.size().map_or(1, |size| size.count * size.rows / self.side.max(1));
        (right.0, right.1, rows as usize)
    }

    /// The blocks of a tile whose rows have these numbers.
    fn blocks(&self, numbers: &[u64]) -> Vec<Block> {
        let (side, (_, wide, high)) = (self.side as usize, self.size());
        let of = |row: u64| row as usize / high.max(1);
        let mut blocks = Vec::new();
        let mut from = 0;
        while from < numbers.len() {
            let k = of(numbers[from]);
            let same = numbers[from..].iter().take_while(|row| of(**row) == k).count();
            blocks.extend((0..side).map(|n| Block {
                rows: from..from + same,
                columns: n * wide..(n + 1) * wide,
                n,
                right: if self.down { n * side + k } else { k * side + n },
            }));
            from += same;
        }
        blocks
    }
}

impl Block {
    /// The rows of the left factor for a tile whose rows have these numbers.
    fn left<T: Copy>(&self, left: &[T], numbers: &[u64], (side, rank): (usize, usize)) -> Vec<T> {
        let row = |number: u64| &left[number as usize * side * rank + self.n * rank..][..rank];
        numbers[self.rows.clone()].iter().flat_map(|number| row(*number).iter().copied()).collect()
    }

    fn take<T: Copy>(&self, w: &[T], cols: usize) -> Vec<T> {
        self.rows.clone().flat_map(|row| w[row * cols..][self.columns.clone()].iter().copied()).collect()
    }

    fn put<T: Copy>(&self, w: &mut [T], cols: usize, values: &[T]) {
        for (row, values) in self.rows.clone().zip(values.chunks_exact(self.columns.len())) {
            w[row * cols..][self.columns.clone()].copy_from_slice(values);
        }
    }
}

impl Definition for Grid {
    fn inputs(&self) -> Vec<Input<'_>> {
        Vec::new()
    }

    fn matrices(&self) -> Vec<Matrices<'_>> {
        vec![Matrices::plain(&self.left), Matrices::rights(&self.right)]
    }

    fn fits(&self, rows: u64, cols: u64) -> Result<(), String> {
        let (left, right, side) = (self.left.size()?, self.right.size()?, self.side);
        let of = |a: u64, b: u64, whole: u64| a.checked_mul(b) == Some(whole);
        let fits = of(left.count, left.rows, rows)
            && of(right.cols, side, cols)
            && of(right.rows, side, left.cols)
            && of(side, side, right.count)
            && rows.is_multiple_of(side);
        if fits {
            return Ok(());
        }
        Err(format!("a grid of {side} x {side} products of {left:?} and {right:?} is no {rows} x {cols}"))
    }

    fn scale(&self) -> f32 {
        self.scale
    }

    fn inner(&self) -> Vec<(&Source, u64, u64)> {
        Vec::new()
    }

    fn add<A: Arithmetic>(&self, arithmetic: &A, tile: &mut Tile<'_>, values: &[Value<'_, A::Right>]) {
        let (left, rights) = (values[0].plain(), values[1].rights());
        let rows = (tile.w.len() / tile.cols) as u64;
        let numbers: Vec<u64> = (tile.first..tile.first + rows).collect();
        let shape = (self.side as usize, self.size().0);
        for block in self.blocks(&numbers) {
            let left = block.left(left, &numbers, shape);
            let mut w = block.take(tile.w, tile.cols);
            arithmetic.low_rank(&mut w, &left, &rights[block.right], self.scale);
            block.put(tile.w, tile.cols, &w);
        }
    }

    fn exact(&self, tile: &mut ExactRows<'_>, values: &[&[f64]]) {
        let (rank, wide, _) = self.size();
        for block in self.blocks(tile.rows) {
            let left = block.left(values[0], tile.rows, (self.side as usize, rank));
            let right = &values[1][block.right * rank * wide..][..rank * wide];
            let mut w = block.take(tile.w, tile.cols);
            let product = exact_product(wide, &left, right);
            w.iter_mut().zip(product).for_each(|(w, v)| *w += f64::from(self.scale) * v);
            block.put(tile.w, tile.cols, &w);
        }
    }

    fn cost(&self) -> u64 {
        self.size().0 as u64 + 2
    }
}
