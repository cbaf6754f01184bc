//! What every operation provides.

use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::delta::Delta;
use crate::recipe::made::Matrices;
use crate::recipe::operand::{Input, Value};
use crate::recipe::tile::{ExactRows, NoResult, Tile};

/// What every operation provides.
pub trait Definition {
    /// The delta that it adds first.
    fn delta(&self) -> Option<&Delta> {
        None
    }
    /// The delta that it makes something else of than adding it. What that reads is among its own inputs.
    fn factor(&self) -> Option<&Delta> {
        None
    }
    /// What it reads beside its delta. The values are passed in this order.
    fn inputs(&self) -> Vec<Input<'_>>;
    /// The matrices that it takes beside its delta's. Their values are passed behind those of the inputs.
    fn matrices(&self) -> Vec<Matrices<'_>> {
        Vec::new()
    }
    /// Holds its matrices, each of which is sound, against the parameter.
    ///
    /// # Errors
    /// What does not fit.
    fn fits(&self, rows: u64, cols: u64) -> Result<(), String> {
        let _ = (rows, cols);
        Ok(())
    }
    /// Whether it needs `start + delta` beside the weight that stands.
    fn wants_original(&self) -> bool {
        false
    }
    /// The definition in fp32, behind the delta.
    fn finish<A: Arithmetic>(
        &self,
        arithmetic: &A,
        tile: &mut Tile<'_>,
        original: Option<&[f32]>,
        values: &[Value<'_, A::Right>],
    ) -> Result<(), NoResult>;
    /// The same in f64; an output without a norm becomes NaN. An input that is derived has two lists of values: the values,
    /// and how far each may be off.
    fn exact(&self, tile: &mut ExactRows<'_>, original: Option<&[f64]>, values: &[&[f64]]);
    /// Fused multiply-adds for each element, beside the delta's.
    fn cost(&self) -> u64;
}
