//! Multiplies rows or columns: IA3 (Liu et al. 2022, arXiv:2205.05638).

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::operand::{Input, Need, Operand, Value};
use crate::recipe::tile::{ExactRows, NoResult, Tile};

/// What a gain multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Along {
    /// One gain for each row.
    Rows,
    /// One gain for each column.
    Columns,
}

/// `w[i, j] *= gains[i]` or `w[i, j] *= gains[j]`, each product rounded once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// The gains, a vector.
    pub gains: Operand,
    /// What a gain multiplies.
    pub along: Along,
}

impl Definition for Scale {
    fn inputs(&self) -> Vec<Input<'_>> {
        let need = match self.along {
            Along::Rows => Need::PerRow,
            Along::Columns => Need::PerColumn,
        };
        vec![Input::new(&self.gains, need)]
    }

    fn finish<A: Arithmetic>(
        &self,
        arithmetic: &A,
        tile: &mut Tile<'_>,
        _: Option<&[f32]>,
        values: &[Value<'_, A::Right>],
    ) -> Result<(), NoResult> {
        let gains = values[0].plain();
        match self.along {
            Along::Columns => arithmetic.scale_columns(tile.w, tile.cols, gains),
            Along::Rows => {
                for (row, gain) in tile.w.chunks_exact_mut(tile.cols).zip(gains) {
                    arithmetic.scale_row(row, *gain);
                }
            }
        }
        Ok(())
    }

    fn exact(&self, tile: &mut ExactRows<'_>, _: Option<&[f64]>, values: &[&[f64]]) {
        let rows = tile.w.chunks_exact_mut(tile.cols).zip(tile.doubt.chunks_exact_mut(tile.cols));
        for (i, (row, doubts)) in rows.enumerate() {
            for (j, (w, doubt)) in row.iter_mut().zip(doubts).enumerate() {
                let gain = values[0][if self.along == Along::Rows { i } else { j }];
                *w *= gain;
                *doubt *= gain.abs();
            }
        }
    }

    fn cost(&self) -> u64 {
        1
    }
}
