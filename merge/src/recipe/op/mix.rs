//! Mixes the columns of each block with each other: OFT and BOFT (Qiu et al. 2023, arXiv:2306.07280; Liu et al. 2023,
//! arXiv:2311.06243), whose rotations act on a layer's inputs, and MiSS's `bat`.

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::scale::Along;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::delta::exact_product;
use crate::recipe::exact::absolute;
use crate::recipe::made::{Made, Matrices, Size};
use crate::recipe::operand::{Input, Value};
use crate::recipe::tile::{ExactRows, NoResult, Tile};

/// `w += w @ block` for each block of columns: `block` is what is added to the identity.
///
/// In fp32 a block of `w` is the left factor, and is added to with a scale of 1
/// ([`low_rank`](crate::recipe::arithmetic::low_rank)).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// The square matrices, one for all blocks or one for each.
    pub blocks: Made,
    /// Whether a matrix belongs to a block of columns, or to a block of rows and all of their columns.
    pub along: Along,
    /// Which columns make up a block; `None` if they lie side by side.
    pub shuffle: Option<Shuffle>,
}

/// The columns of blocks that are not neighbours: BOFT's butterfly. Columns are taken in groups of `ways` chunks. In a group the
/// chunks at even places and those at odd places take turns: the order of a group of 6 is 0, 3, 1, 4, 2, 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shuffle {
    /// Columns of a chunk.
    pub chunk: u64,
    /// Chunks of a group, an even number.
    pub ways: u64,
}

impl Shuffle {
    /// The column at a place of the order.
    fn column(self, place: usize) -> usize {
        let (chunk, ways) = (self.chunk as usize, self.ways as usize);
        let (group, within) = (place / (chunk * ways), place % (chunk * ways));
        let (number, rest) = (within / chunk, within % chunk);
        let from = if number % 2 == 0 { number / 2 } else { ways / 2 + number / 2 };
        group * chunk * ways + from * chunk + rest
    }
}

/// Rows and columns that one matrix mixes.
struct Block {
    rows: std::ops::Range<usize>,
    columns: Vec<usize>,
    matrix: usize,
}

impl Mix {
    fn size(&self) -> Size {
        self.blocks.size().unwrap_or(Size::one(1, 1))
    }

    /// The blocks of a tile whose rows have these numbers.
    fn blocks(&self, numbers: &[u64], cols: usize) -> Vec<Block> {
        let size = self.size();
        let (side, shared) = (size.rows as usize, size.count == 1);
        let mut blocks = Vec::new();
        let mut from = 0;
        while from < numbers.len() {
            // Rows that the same matrices mix.
            let of = |row: &u64| if self.along == Along::Rows { *row as usize / side } else { 0 };
            let same = numbers[from..].iter().take_while(|row| of(row) == of(&numbers[from])).count();
            for at in 0..cols / side {
                let place = |k: usize| at * side + k;
                let columns = (0..side).map(|k| self.shuffle.map_or(place(k), |shuffle| shuffle.column(place(k))));
                let matrix = if self.along == Along::Rows { of(&numbers[from]) } else { at };
                blocks.push(Block {
                    rows: from..from + same,
                    columns: columns.collect(),
                    matrix: if shared { 0 } else { matrix },
                });
            }
            from += same;
        }
        blocks
    }
}

impl Block {
    fn take<T: Copy>(&self, w: &[T], cols: usize) -> Vec<T> {
        self.rows.clone().flat_map(|row| self.columns.iter().map(move |column| w[row * cols + column])).collect()
    }

    fn put<T: Copy>(&self, w: &mut [T], cols: usize, values: &[T]) {
        for (row, values) in self.rows.clone().zip(values.chunks_exact(self.columns.len())) {
            for (column, value) in self.columns.iter().zip(values) {
                w[row * cols + column] = *value;
            }
        }
    }
}

impl Definition for Mix {
    fn inputs(&self) -> Vec<Input<'_>> {
        Vec::new()
    }

    fn matrices(&self) -> Vec<Matrices<'_>> {
        vec![Matrices::rights(&self.blocks)]
    }

    fn fits(&self, rows: u64, cols: u64) -> Result<(), String> {
        let size = self.blocks.size()?;
        let side = size.rows;
        let mixed = if self.along == Along::Rows { rows } else { cols };
        let even = size.cols == side && cols.is_multiple_of(side) && mixed.is_multiple_of(side);
        let orders = self.shuffle.is_none_or(|Shuffle { chunk, ways }| {
            let group = chunk.checked_mul(ways).filter(|group| *group > 0);
            self.along == Along::Columns && ways.is_multiple_of(2) && group.is_some_and(|g| cols.is_multiple_of(g))
        });
        if even && orders && (size.count == 1 || size.count == mixed / side) {
            return Ok(());
        }
        let name = self.blocks.operands().first().map_or("", |operand| operand.source.name.as_str());
        Err(format!("{name} gives {} blocks of {side} x {}, the weight is {rows} x {cols}", size.count, size.cols))
    }

    fn finish<A: Arithmetic>(
        &self,
        arithmetic: &A,
        tile: &mut Tile<'_>,
        _: Option<&[f32]>,
        values: &[Value<'_, A::Right>],
    ) -> Result<(), NoResult> {
        let rights = values[0].rights();
        let rows = (tile.w.len() / tile.cols) as u64;
        let numbers: Vec<u64> = (tile.first..tile.first + rows).collect();
        for block in self.blocks(&numbers, tile.cols) {
            let left = block.take(tile.w, tile.cols);
            let mut sum = left.clone();
            arithmetic.low_rank(&mut sum, &left, &rights[block.matrix], 1.0);
            block.put(tile.w, tile.cols, &sum);
        }
        Ok(())
    }

    fn exact(&self, tile: &mut ExactRows<'_>, _: Option<&[f64]>, values: &[&[f64]]) {
        let side = self.size().rows as usize;
        for block in self.blocks(tile.rows, tile.cols) {
            let mut w = block.take(tile.w, tile.cols);
            let added = exact_product(side, &w, &values[0][block.matrix * side * side..][..side * side]);
            w.iter_mut().zip(added).for_each(|(w, v)| *w += v);
            block.put(tile.w, tile.cols, &w);
            let mut doubt = block.take(tile.doubt, tile.cols);
            let spread = absolute(&values[0][block.matrix * side * side..][..side * side]);
            let added = exact_product(side, &doubt, &spread);
            doubt.iter_mut().zip(added).for_each(|(doubt, v)| *doubt += v);
            block.put(tile.doubt, tile.cols, &doubt);
        }
    }

    fn cost(&self) -> u64 {
        self.size().rows + 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_shuffle_takes_every_column_once() {
        let order = |chunk, ways, columns: usize| {
            (0..columns).map(|place| Shuffle { chunk, ways }.column(place)).collect::<Vec<_>>()
        };
        assert_eq!(order(1, 6, 6), [0, 3, 1, 4, 2, 5]);
        assert_eq!(order(2, 4, 16), [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
        assert_eq!(order(3, 2, 12), (0..12).collect::<Vec<_>>(), "two ways change nothing");
    }
}
