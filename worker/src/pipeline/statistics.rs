//! Values of statistics that earlier tasks reduced, and what they make of an operand.

use std::collections::HashMap;
use std::sync::Arc;

use shardfuse_merge::plan::task::StatisticValue;
use shardfuse_merge::recipe::Operand;
use shardfuse_merge::statistic::{Kind, StatisticId, numbers};

use super::cache::Cache;
use super::inputs::{Inputs, Version};
use super::{Shared, operands, steps};
use crate::Failure;

/// The digest of a statistic's value, and the operand that it is applied to.
pub type Key = (String, Version, u64);
/// Derived values for each column, kept for neighbouring parts.
pub type Derived = Cache<Key, Vec<f32>>;

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

    /// What a statistic makes of an operand.
    pub async fn derive(
        &self,
        shared: &Shared,
        inputs: &Inputs,
        id: StatisticId,
        operand: &Operand,
    ) -> Result<Arc<Vec<f32>>, Failure> {
        let value = self
            .values
            .get(&id.0)
            .ok_or_else(|| Failure::local(format!("the assignment needs statistic {} and does not bring it", id.0)))?;
        let key = (value.digest.clone(), inputs.version(operand.source.object)?, operand.source.offset);
        let (kind, cols) = (Kind::ColumnSquares, operand.view.rows);
        let load = async {
            let (raw, values) = futures::try_join!(
                inputs.read_fact(&value.url, kind.bytes(cols), &value.digest),
                operands::rows(shared, inputs, operand, 0..cols)
            )?;
            kind.derive(&operand.source.name, &values, &numbers(&raw)).map_err(steps::no_norm)
        };
        shared.derived.get(key, cols * 4, load).await
    }
}
