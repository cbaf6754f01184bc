//! Reflects the rows of a weight: HRA (Yuan et al. 2024, arXiv:2405.17484).

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::delta::exact_product;
use crate::recipe::exact::absolute;
use crate::recipe::made::{Made, Matrices};
use crate::recipe::operand::{Input, Value};
use crate::recipe::tile::{ExactRows, NoResult, Tile};

/// `w += (w @ vectors) @ back`. In fp32 each product is one [`low_rank`](crate::recipe::arithmetic::low_rank) with a scale of 1, the
/// first onto zeros.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reflect {
    /// [columns, r].
    pub vectors: Made,
    /// [r, columns].
    pub back: Made,
}

impl Reflect {
    /// The number of reflections.
    fn rank(&self) -> usize {
        self.vectors.size().map_or(1, |size| size.cols as usize)
    }
}

impl Definition for Reflect {
    fn inputs(&self) -> Vec<Input<'_>> {
        Vec::new()
    }

    fn matrices(&self) -> Vec<Matrices<'_>> {
        vec![Matrices::rights(&self.vectors), Matrices::rights(&self.back)]
    }

    fn fits(&self, _: u64, cols: u64) -> Result<(), String> {
        let (vectors, back) = (self.vectors.size()?, self.back.size()?);
        let one = vectors.count == 1 && back.count == 1;
        if one && vectors.rows == cols && back.cols == cols && vectors.cols == back.rows {
            return Ok(());
        }
        let name = self.vectors.operands().first().map_or("", |operand| operand.source.name.as_str());
        Err(format!("{name} reflects {} inputs, the weight has {cols}", vectors.rows))
    }

    fn finish<A: Arithmetic>(
        &self,
        arithmetic: &A,
        tile: &mut Tile<'_>,
        _: Option<&[f32]>,
        values: &[Value<'_, A::Right>],
    ) -> Result<(), NoResult> {
        let ([vectors, ..], [back, ..]) = (values[0].rights(), values[1].rights()) else { return Ok(()) };
        let mut along = vec![0.0; tile.w.len() / tile.cols * self.rank()];
        arithmetic.low_rank(&mut along, tile.w, vectors, 1.0);
        arithmetic.low_rank(tile.w, &along, back, 1.0);
        Ok(())
    }

    fn exact(&self, tile: &mut ExactRows<'_>, _: Option<&[f64]>, values: &[&[f64]]) {
        let along = exact_product(self.rank(), tile.w, values[0]);
        let added = exact_product(tile.cols, &along, values[1]);
        tile.w.iter_mut().zip(added).for_each(|(w, v)| *w += v);
        let along = exact_product(self.rank(), tile.doubt, &absolute(values[0]));
        let added = exact_product(tile.cols, &along, &absolute(values[1]));
        tile.doubt.iter_mut().zip(added).for_each(|(doubt, v)| *doubt += v);
    }

    fn cost(&self) -> u64 {
        2 * self.rank() as u64 + 1
    }
}
