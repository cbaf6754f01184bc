//! Rounds what stands to a dtype: what saving after each adapter does.

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::exact;
use crate::recipe::operand::{Input, Value};
use crate::recipe::tile::{ExactRows, NoResult, Overflow, Tile};
use crate::tensor::float::Float;

/// `w = fp32(round(w))`, to nearest even, as if the weight had been saved and loaded again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// What it is rounded to.
    pub to: Float,
}

impl Definition for Round {
    fn inputs(&self) -> Vec<Input<'_>> {
        Vec::new()
    }

    fn finish<A: Arithmetic>(
        &self,
        arithmetic: &A,
        tile: &mut Tile<'_>,
        _: Option<&[f32]>,
        _: &[Value<'_, A::Right>],
    ) -> Result<(), NoResult> {
        let Some(at) = arithmetic.round(tile.w, self.to) else { return Ok(()) };
        let (row, col) = (tile.first + (at / tile.cols) as u64, (at % tile.cols) as u64);
        Err(Overflow { row, col, value: tile.w[at], to: self.to }.into())
    }

    fn exact(&self, tile: &mut ExactRows<'_>, _: Option<&[f64]>, _: &[&[f64]]) {
        let rows = tile.w.chunks_exact_mut(tile.cols).zip(tile.doubt.chunks_exact_mut(tile.cols));
        for (row, doubts) in rows {
            let noise = exact::noise(row);
            for (w, doubt) in row.iter_mut().zip(doubts) {
                let around = *doubt + noise;
                let nearest = exact::nearest(self.to, *w);
                let (low, high) = (exact::nearest(self.to, *w - around), exact::nearest(self.to, *w + around));
                *doubt = (high - nearest).max(nearest - low);
                *w = nearest;
            }
        }
    }

    fn cost(&self) -> u64 {
        1
    }
}
