//! What a merge will cost: bytes read and written, arithmetic, memory.

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::recipe::{self, Need, Start, Step};

/// The figures of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Bytes of base and adapters that are read.
    pub read: u64,
    /// Those of them that are read for statistics, before anything is fused.
    #[serde(default)]
    pub measured: u64,
    /// Bytes of weight files that are written, by workers or by the store.
    pub write: u64,
    /// Those of them that the store is asked to copy by itself. They count for nothing in `read`.
    #[serde(default)]
    pub copied: u64,
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
        let copies = file.copies().into_iter().flatten();
        cost.copied += copies.map(|(_, range)| range.end - range.start).sum::<u64>();
        for t in &file.tensors {
            cost.read += t.recipe.sources().iter().map(|s| s.bytes()).sum::<u64>();
            let Some(fuse) = t.recipe.fuse() else { continue };
            cost.multiply_adds += arithmetic(&fuse.start, &fuse.steps);
            for step in &fuse.steps {
                let factors = step.op.inputs().into_iter();
                let factors = factors.filter(|i| matches!(i.need, Need::SameRows | Need::SameColumns));
                cost.unbounded_memory += factors.map(|i| 4 * i.operand.view.elements()).sum::<u64>();
                for matrices in step.op.matrices() {
                    cost.unbounded_memory += 4 * matrices.made.elements();
                }
            }
        }
    }
    // What is copied is read of the base byte by byte.
    cost.read = cost.read.saturating_sub(cost.copied);
    cost.unbounded_memory += cost.read + cost.write - cost.copied;
    for s in &plan.statistics {
        cost.measured += s.start.tensors().iter().chain(recipe::sources(&s.steps)).map(|s| s.bytes()).sum::<u64>();
        cost.multiply_adds += arithmetic(&s.start, &s.steps);
    }
    cost.read += cost.measured;
    cost
}

/// The multiply-adds of steps.
fn arithmetic(start: &Start, steps: &[Step]) -> u64 {
    let (rows, cols) = start.matrix();
    let made = |step: &Step| step.op.matrices().iter().map(|matrices| matrices.made.effort()).sum::<u64>();
    steps.iter().map(|step| rows * cols * step.op.cost() + made(step)).sum()
}
