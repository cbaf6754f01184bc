//! A product of two thin matrices: LoRA (Hu et al. 2021, arXiv:2106.09685).

use serde::{Deserialize, Serialize};

use super::definition::{Definition, exact_product};
use crate::inventory::Source;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::operand::{Input, Need, Operand, Value};
use crate::recipe::tile::{ExactRows, Tile};

/// `delta = scale * left @ right`, left [rows, rank], right [rank, cols]. The order of the operations stands in
/// [`low_rank`](crate::recipe::arithmetic::low_rank).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LowRank {
    /// [rows, rank]; lora_B, or lora_A transposed.
    pub left: Operand,
    /// [rank, cols]; lora_A, or lora_B transposed.
    pub right: Operand,
    /// alpha / r (or alpha / sqrt r) times the adapter's weight, rounded to fp32 once.
    pub scale: f32,
}

impl LowRank {
    /// The inner dimension.
    pub fn rank(&self) -> u64 {
        self.right.view.rows
    }
}

impl Definition for LowRank {
    fn inputs(&self) -> Vec<Input<'_>> {
        vec![Input::new(&self.left, Need::SameRows), Input::new(&self.right, Need::SameColumns)]
    }

    fn scale(&self) -> f32 {
        self.scale
    }

    fn inner(&self) -> Vec<(&Source, u64, u64)> {
        vec![(&self.left.source, self.left.view.cols, self.right.view.rows)]
    }

    fn add<A: Arithmetic>(&self, arithmetic: &A, tile: &mut Tile<'_>, values: &[Value<'_, A::Right>]) {
        arithmetic.low_rank(tile.w, values[0].plain(), values[1].right(), self.scale);
    }

    fn exact(&self, tile: &mut ExactRows<'_>, values: &[&[f64]]) {
        let product = exact_product(tile.cols, values[0], values[1]);
        for (w, v) in tile.w.iter_mut().zip(product) {
            *w += f64::from(self.scale) * v;
        }
    }

    fn cost(&self) -> u64 {
        self.rank() + 1
    }
}
