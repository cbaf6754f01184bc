//! A delta that is stored whole: a trained bias.

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::inventory::Source;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::operand::{Input, Need, Operand, Value};
use crate::recipe::tile::{ExactRows, Tile};

/// `delta = scale * tensor`, of the parameter's shape ([`add_scaled`](crate::recipe::arithmetic::add_scaled)).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dense {
    /// The tensor.
    pub tensor: Operand,
    /// The adapter's weight, rounded to fp32 once.
    pub scale: f32,
}

impl Definition for Dense {
    fn inputs(&self) -> Vec<Input<'_>> {
        vec![Input::new(&self.tensor, Need::Same)]
    }

    fn scale(&self) -> f32 {
        self.scale
    }

    fn inner(&self) -> Vec<(&Source, u64, u64)> {
        Vec::new()
    }

    fn add<A: Arithmetic>(&self, arithmetic: &A, tile: &mut Tile<'_>, values: &[Value<'_, A::Right>]) {
        arithmetic.add_scaled(tile.w, values[0].plain(), self.scale);
    }

    fn exact(&self, tile: &mut ExactRows<'_>, values: &[&[f64]]) {
        for (w, v) in tile.w.iter_mut().zip(values[0]) {
            *w += f64::from(self.scale) * v;
        }
    }

    fn cost(&self) -> u64 {
        1
    }
}
