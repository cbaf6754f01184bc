//! Norms by column that earlier tasks measured.

use std::collections::HashMap;
use std::sync::Arc;

use shardfuse_merge::plan::inventory::Source;
use shardfuse_merge::plan::recipe::MeasureId;
use shardfuse_merge::plan::task::Measured;

use super::inputs::Inputs;
use super::{Shared, steps};
use crate::Failure;

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
        let raw = inputs.read_own(&fact.url, cols * 8, Some(&fact.digest)).await?;
        let squares: Vec<f64> = raw.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
        let magnitudes = steps::whole_vector(shared, inputs, magnitude).await?;
        Ok(Arc::new(steps::gains(&magnitude.name, &magnitudes, &squares)?))
    }
}
