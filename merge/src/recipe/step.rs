//! A step of a recipe, and what steps read.

use serde::{Deserialize, Serialize};

use super::op::Op;
use crate::inventory::Source;
use crate::statistic::id::StatisticId;

/// One step and the adapter that it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The adapter's number in the plan.
    pub adapter: u16,
    /// The operation.
    pub op: Op,
}

/// Every stored tensor that steps read, in the order of their inputs.
pub fn sources(steps: &[Step]) -> impl Iterator<Item = &Source> {
    steps.iter().flat_map(|step| step.op.sources())
}

/// The statistics that steps wait for.
pub fn statistics(steps: &[Step]) -> impl Iterator<Item = StatisticId> {
    steps.iter().flat_map(|step| step.op.statistics())
}
