//! Where the values of an assignment's statistics lie.

use std::collections::HashMap;

use shardfuse_merge::plan::task::StatisticValue;
use shardfuse_merge::statistic::StatisticId;

use crate::Failure;

/// Where the values of an assignment's statistics lie.
#[derive(Debug)]
pub struct Statistics {
    values: HashMap<u32, StatisticValue>,
}

impl Statistics {
    /// The values that came with an assignment.
    pub fn new(values: &[StatisticValue]) -> Self {
        Statistics { values: values.iter().map(|v| (v.id.0, v.clone())).collect() }
    }

    /// The value of a statistic.
    pub fn find(&self, id: StatisticId) -> Result<&StatisticValue, Failure> {
        self.values
            .get(&id.0)
            .ok_or_else(|| Failure::local(format!("the assignment needs statistic {} and does not bring it", id.0)))
    }
}
