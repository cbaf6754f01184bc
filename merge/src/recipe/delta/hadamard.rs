//! A product of two low-rank matrices, element by element: LoHa (Hyeon-Woo et al. 2021, arXiv:2108.06098).

use serde::{Deserialize, Serialize};

use super::definition::{Definition, exact_product};
use crate::inventory::Source;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::operand::{Input, Need, Operand, Value};
use crate::recipe::tile::{ExactRows, Tile};

/// `delta = scale * (a @ b) ∘ (c @ d)`; a and c [rows, rank], b and d [rank, cols]. In fp32 each product is added to zeros
/// with a scale of 1 ([`low_rank`](crate::recipe::arithmetic::low_rank)), and the two are joined by
/// [`add_product`](crate::recipe::arithmetic::add_product).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hadamard {
    /// The factors a and b.
    pub first: (Operand, Operand),
    /// The factors c and d.
    pub second: (Operand, Operand),
    /// alpha / r times the adapter's weight, rounded to fp32 once.
    pub scale: f32,
}

impl Definition for Hadamard {
    fn inputs(&self) -> Vec<Input<'_>> {
        [&self.first, &self.second]
            .into_iter()
            .flat_map(|(left, right)| [Input::new(left, Need::SameRows), Input::new(right, Need::SameColumns)])
            .collect()
    }

    fn scale(&self) -> f32 {
        self.scale
    }

    fn inner(&self) -> Vec<(&Source, u64, u64)> {
        let of = |(left, right): &'_ (Operand, Operand)| (left.view.cols, right.view.rows);
        let ((a, b), (c, d)) = (of(&self.first), of(&self.second));
        vec![(&self.first.0.source, a, b), (&self.second.0.source, c, d)]
    }

    fn add<A: Arithmetic>(&self, arithmetic: &A, tile: &mut Tile<'_>, values: &[Value<'_, A::Right>]) {
        let product = |left: &Value<'_, A::Right>, right: &Value<'_, A::Right>| {
            let mut out = vec![0.0; tile.w.len()];
            arithmetic.low_rank(&mut out, left.plain(), right.right(), 1.0);
            out
        };
        let (first, second) = (product(&values[0], &values[1]), product(&values[2], &values[3]));
        arithmetic.add_product(tile.w, &first, &second, self.scale);
    }

    fn exact(&self, tile: &mut ExactRows<'_>, values: &[&[f64]]) {
        let first = exact_product(tile.cols, values[0], values[1]);
        let second = exact_product(tile.cols, values[2], values[3]);
        for ((w, a), b) in tile.w.iter_mut().zip(first).zip(second) {
            *w += f64::from(self.scale) * a * b;
        }
    }

    fn cost(&self) -> u64 {
        self.first.1.view.rows + self.second.1.view.rows + 4
    }
}
