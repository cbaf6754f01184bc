//! What a merge will cost: bytes read and written, arithmetic, memory.

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::recipe::{Recipe, matrix};

/// The figures of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes of base and adapters that are read.
    pub read: u64,
    /// Bytes of weight files that are written.
    pub write: u64,
    /// Fused multiply-adds.
    pub multiply_adds: u64,
    /// Memory that the merge would take if it had no budget: every output file in memory, with what it is made of.
    pub unbounded_memory: u64,
}

impl Cost {
    /// Peak memory in bytes under a budget.
    pub fn peak_memory(&self, budget: u64) -> u64 {
        self.unbounded_memory.min(budget)
    }
}

/// Adds up a plan.
pub fn cost(plan: &Plan) -> Cost {
    let mut cost = Cost::default();
    for file in &plan.output.files {
        cost.write += file.size;
        for t in &file.tensors {
            cost.read += t.recipe.sources().iter().map(|s| s.bytes()).sum::<u64>();
            let Recipe::Fuse(fuse) = &t.recipe else { continue };
            let (rows, cols) = matrix(&t.shape);
            for delta in fuse.steps.iter().filter_map(|s| s.op.delta()) {
                cost.multiply_adds += rows * cols * (delta.rank + 1);
                cost.unbounded_memory += 4 * delta.rank * (rows + cols);
            }
        }
    }
    cost.unbounded_memory += cost.read + cost.write;
    for m in &plan.measures {
        let steps: u64 = m.steps.iter().flat_map(|s| s.op.sources()).map(|s| s.bytes()).sum();
        cost.read += m.start.bytes() + steps;
    }
    cost
}
