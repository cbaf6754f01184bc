//! Norms by column that earlier tasks measured, and the gains m / n that follow from them.

use std::collections::HashMap;
use std::sync::Arc;

use shardfuse_merge::inventory::Source;
use shardfuse_merge::plan::task::Measured;
use shardfuse_merge::recipe::MeasureId;

use super::cache::Cache;
use super::inputs::{Inputs, Version};
use super::{Shared, steps};
use crate::Failure;

/// A measured object by its digest, and the magnitudes that it is applied with.
pub type Key = (String, Version, u64);
/// m / n of every column, kept for neighbouring parts.
pub type Gains = Cache<Key, Vec<f32>>;

/// Where the norms of an assignment lie.
#[derive(Debug)]
pub struct Norms {
    facts: HashMap<u32, Measured>,
}

impl Norms {
    /// The facts that came with an assignment.
    pub fn new(facts: &[Measured]) -> Self {
        Norms { facts: facts.iter().map(|m| (m.id.0, m.clone())).collect() }
    }

    /// m / n of every column.
    pub async fn gains(
        &self,
        shared: &Shared,
        inputs: &Inputs,
        id: MeasureId,
        magnitude: &Source,
        cols: u64,
    ) -> Result<Arc<Vec<f32>>, Failure> {
        let fact = self.facts.get(&id.0).ok_or_else(|| {
            Failure::local(format!("the assignment needs measurement {} and does not bring it", id.0))
        })?;
        let key = (fact.digest.clone(), inputs.version(magnitude.object)?, magnitude.offset);
        let load = async {
            let (raw, magnitudes) = futures::try_join!(
                inputs.read_fact(&fact.url, cols * 8, &fact.digest),
                steps::vector(shared, inputs, magnitude, 0..magnitude.elements())
            )?;
            let squares: Vec<f64> = raw.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
            steps::gains(&magnitude.name, &magnitudes, &squares)
        };
        shared.gains.get(key, cols * 4, load).await
    }
}
