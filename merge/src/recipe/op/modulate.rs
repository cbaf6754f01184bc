//! Adds a delta times the weight: HiRA (Huang et al. 2025, ICLR).

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::delta::Delta;
use crate::recipe::made::Matrices;
use crate::recipe::operand::{Input, Value};
use crate::recipe::tile::{ExactRows, NoResult, Tile};

/// `w += w ∘ delta`. In fp32 the delta is added to zeros, and joined by
/// [`add_product`](crate::recipe::arithmetic::add_product) with a scale of 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Modulate(pub Delta);

impl Definition for Modulate {
    fn factor(&self) -> Option<&Delta> {
        Some(&self.0)
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        self.0.inputs()
    }

    fn matrices(&self) -> Vec<Matrices<'_>> {
        self.0.matrices()
    }

    fn fits(&self, rows: u64, cols: u64) -> Result<(), String> {
        self.0.fits(rows, cols)
    }

    fn finish<A: Arithmetic>(
        &self,
        arithmetic: &A,
        tile: &mut Tile<'_>,
        _: Option<&[f32]>,
        values: &[Value<'_, A::Right>],
    ) -> Result<(), NoResult> {
        let mut delta = vec![0.0; tile.w.len()];
        self.0.add(arithmetic, &mut Tile { w: &mut delta, ..*tile }, values);
        let w = tile.w.to_vec();
        arithmetic.add_product(tile.w, &w, &delta, 1.0);
        Ok(())
    }

    fn exact(&self, tile: &mut ExactRows<'_>, _: Option<&[f64]>, values: &[&[f64]]) {
        let mut delta = vec![0.0; tile.w.len()];
        let (rows, column, cols) = (tile.rows, tile.column, tile.cols);
        self.0.exact(&mut ExactRows { rows, column, cols, w: &mut delta, doubt: &mut [] }, values);
        for ((w, doubt), v) in tile.w.iter_mut().zip(tile.doubt.iter_mut()).zip(delta) {
            *w += *w * v;
            *doubt += *doubt * v.abs();
        }
    }

    fn cost(&self) -> u64 {
        self.0.cost() + 2
    }
}
