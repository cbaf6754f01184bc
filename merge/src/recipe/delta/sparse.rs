//! A sparse delta: SHiRA (Bhardwaj et al. 2024, arXiv:2406.13175).

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::inventory::Source;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::made::{Made, Matrices};
use crate::recipe::operand::{Input, Value};
use crate::recipe::tile::{ExactRows, Tile};

/// `delta[row, column] = scale * value` for each entry, which are added one after another as they are stored
/// ([`add_scaled`](crate::recipe::arithmetic::add_scaled)).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sparse {
    /// Row, column and value of each ([`Entries`](crate::recipe::made::Entries)).
    pub entries: Made,
    /// The adapter's weight, rounded to fp32 once.
    pub scale: f32,
}

/// The entries of a row that lie in a range of columns: the place in the range, and the value.
fn of_row<T: Copy + Into<f64> + 'static>(
    entries: &[T],
    row: u64,
    columns: Range<u64>,
) -> impl Iterator<Item = (usize, T)> {
    let (entries, _) = entries.as_chunks::<3>();
    let number = |value: T| value.into() as u64;
    let from = entries.partition_point(|[at, ..]| number(*at) < row);
    let of = entries[from..].iter().take_while(move |[at, ..]| number(*at) == row);
    of.filter_map(move |[_, column, value]| {
        let column = number(*column);
        columns.contains(&column).then(|| ((column - columns.start) as usize, *value))
    })
}

impl Definition for Sparse {
    fn inputs(&self) -> Vec<Input<'_>> {
        Vec::new()
    }

    fn matrices(&self) -> Vec<Matrices<'_>> {
        vec![Matrices::plain(&self.entries)]
    }

    fn fits(&self, rows: u64, cols: u64) -> Result<(), String> {
        match &self.entries {
            Made::Entries(entries) if (entries.rows, entries.cols) == (rows, cols) => Ok(()),
            other => Err(format!("{other:?} are no entries of a matrix of {rows} x {cols}")),
        }
    }

    fn scale(&self) -> f32 {
        self.scale
    }

    fn inner(&self) -> Vec<(&Source, u64, u64)> {
        Vec::new()
    }

    fn add<A: Arithmetic>(&self, arithmetic: &A, tile: &mut Tile<'_>, values: &[Value<'_, A::Right>]) {
        let columns = tile.column..tile.column + tile.cols as u64;
        for (w, row) in tile.w.chunks_exact_mut(tile.cols).zip(tile.first..) {
            for (column, value) in of_row(values[0].plain(), row, columns.clone()) {
                arithmetic.add_scaled(&mut w[column..=column], &[value], self.scale);
            }
        }
    }

    fn exact(&self, tile: &mut ExactRows<'_>, values: &[&[f64]]) {
        let columns = tile.column..tile.column + tile.cols as u64;
        for (w, row) in tile.w.chunks_exact_mut(tile.cols).zip(tile.rows) {
            for (column, value) in of_row(values[0], *row, columns.clone()) {
                w[column] += f64::from(self.scale) * value;
            }
        }
    }

    fn cost(&self) -> u64 {
        1
    }
}
