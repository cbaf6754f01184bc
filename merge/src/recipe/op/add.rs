//! Adds a delta.

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::delta::Delta;
use crate::recipe::operand::{Input, Value};
use crate::recipe::tile::{ExactRows, NoResult, Tile};

/// `w += delta`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Add(pub Delta);

impl Definition for Add {
    fn delta(&self) -> Option<&Delta> {
        Some(&self.0)
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        Vec::new()
    }

    fn finish<A: Arithmetic>(
        &self,
        _: &A,
        _: &mut Tile<'_>,
        _: Option<&[f32]>,
        _: &[Value<'_, A::Right>],
    ) -> Result<(), NoResult> {
        Ok(())
    }

    fn exact(&self, _: &mut ExactRows<'_>, _: Option<&[f64]>, _: &[&[f64]]) {}

    fn cost(&self) -> u64 {
        0
    }
}
