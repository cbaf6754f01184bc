//! Replaces rows: trained tokens of an embedding.

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::operand::{Input, Need, Operand, Value};
use crate::recipe::tile::{ExactRows, NoResult, Tile};

/// `w[rows[i], :] = source[i, :]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetRows {
    /// The rows, each once, in the order of the source.
    pub rows: Vec<u64>,
    /// [n, cols].
    pub source: Operand,
}

impl Definition for SetRows {
    fn inputs(&self) -> Vec<Input<'_>> {
        vec![Input::new(&self.source, Need::Rows(&self.rows))]
    }

    fn finish<A: Arithmetic>(
        &self,
        _: &A,
        tile: &mut Tile<'_>,
        _: Option<&[f32]>,
        values: &[Value<'_, A::Right>],
    ) -> Result<(), NoResult> {
        let Value::Rows(rows) = &values[0] else { panic!("rows are needed") };
        for (row, values) in rows {
            tile.w[(row - tile.first) as usize * tile.cols..][..tile.cols].copy_from_slice(values);
        }
        Ok(())
    }

    fn exact(&self, tile: &mut ExactRows<'_>, _: Option<&[f64]>, values: &[&[f64]]) {
        // The values hold one row for each row of the tile that is replaced, in the tile's order.
        let replaced = tile.rows.iter().enumerate().filter(|(_, row)| self.rows.contains(row));
        for ((at, _), values) in replaced.zip(values[0].chunks_exact(tile.cols)) {
            tile.w[at * tile.cols..][..tile.cols].copy_from_slice(values);
            tile.doubt[at * tile.cols..][..tile.cols].fill(0.0);
        }
    }

    fn cost(&self) -> u64 {
        0
    }
}
