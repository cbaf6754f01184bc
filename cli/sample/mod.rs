//! `verify --sample`: rows of the output, computed once more from base and adapters in f64.
//!
//! Memory does not grow with the model: the sampled rows of a tensor are taken in batches of [`BATCH`] bytes, factors are
//! read in blocks, and [`CONCURRENT`] tensors are looked at at a time.

mod exact;
mod reader;

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_coordinator::failure;
use shardfuse_merge::output::OutputFile;
use shardfuse_merge::plan::Plan;
use shardfuse_merge::recipe::exact::{NOISE, ulp_error};
use shardfuse_merge::recipe::{Placed, Recipe};
use shardfuse_merge::tensor::float::decode_f64;
use shardfuse_merge::tensor::matrix;
use shardfuse_merge::{Dtype, Result};
use shardfuse_store::{Location, Stores};

use exact::Exact;
use reader::Reader;

/// Tensors that are looked at at a time.
const CONCURRENT: usize = 8;
/// Bytes of f64 values of one batch of rows; a single row may be larger.
const BATCH: u64 = 8 << 20;

/// What was found for one kind of tensor.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Found {
    /// Tensors of the kind.
    pub tensors: u64,
    /// Rows that were computed.
    pub rows: u64,
    /// The largest error in units in the last place of the output dtype.
    pub worst_ulp: f64,
    /// Where it is.
    pub at: String,
    /// Rows whose error is neither rounding nor fp32 noise, or copied rows that differ.
    pub wrong: u64,
}

/// Computes `per_tensor` rows of every tensor. The keys are tensor names with numbers replaced by `*`.
pub async fn sample(
    stores: &Stores,
    plan: &Plan,
    output: &Location,
    per_tensor: u64,
) -> Result<BTreeMap<String, Found>> {
    let reader = Reader { stores, plan };
    let tensors = plan.output.files.iter().flat_map(|f| f.tensors.iter().map(move |t| (f, t)));
    let looks: Vec<_> = tensors
        .filter(|(_, t)| t.length > 0)
        .map(|(file, tensor)| look(&reader, output, file, tensor, per_tensor))
        .collect();
    let all: Vec<(String, Found)> = stream::iter(looks).buffered(CONCURRENT).try_collect().await?;
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for (kind, of_tensor) in all {
        found.entry(kind).or_default().add(of_tensor);
    }
    Ok(found)
}

/// One tensor.
async fn look(
    reader: &Reader<'_>,
    output: &Location,
    file: &OutputFile,
    tensor: &Placed,
    per_tensor: u64,
) -> Result<(String, Found)> {
    let at = output.join(&file.name).map_err(failure::io)?;
    let (rows, cols) = matrix(&tensor.shape);
    let mut found = Found { tensors: tensor.begins().is_some().into(), ..Found::default() };
    let mut exact = Exact::new(reader);
    for batch in spread(rows, per_tensor).chunks(batch_rows(cols)) {
        let stored = reader.output_rows(&at, tensor, batch, cols).await?;
        match &tensor.recipe {
            Recipe::Copy(source) => {
                let want = reader.raw_rows(source, batch, cols).await?;
                for (row, (have, want)) in batch.iter().zip(stored.iter().zip(&want)) {
                    found.copied(tensor, *row, have == want);
                }
            }
            Recipe::Fuse(fuse) => {
                let want = exact.rows(&fuse.start, &fuse.steps, batch).await?;
                let cols = cols.max(1) as usize;
                let want = want.values.chunks_exact(cols).zip(want.doubt.chunks_exact(cols));
                for (row, (have, want)) in batch.iter().zip(stored.iter().zip(want)) {
                    found.computed(tensor, *row, have, want);
                }
            }
        }
    }
    Ok((kind(&tensor.name), found))
}

/// Rows of one batch.
fn batch_rows(cols: u64) -> usize {
    (BATCH / (8 * cols).max(1)).max(1) as usize
}

impl Found {
    fn add(&mut self, other: Found) {
        self.tensors += other.tensors;
        self.rows += other.rows;
        // Where a wrong row is counts for more than where the largest error is.
        if other.worst_ulp > self.worst_ulp || (other.wrong > 0 && self.wrong == 0) {
            self.at = other.at;
        }
        self.worst_ulp = self.worst_ulp.max(other.worst_ulp);
        self.wrong += other.wrong;
    }

    fn copied(&mut self, tensor: &Placed, row: u64, equal: bool) {
        self.rows += 1;
        if !equal {
            self.wrong += 1;
            self.at = format!("{} row {row}", tensor.name);
        }
    }

    fn computed(&mut self, tensor: &Placed, row: u64, stored: &[u8], (want, doubt): (&[f64], &[f64])) {
        let mut have = vec![0.0; want.len()];
        decode_f64(tensor.dtype, stored, &mut have);
        let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let mut wrong = false;
        for (have, (want, doubt)) in have.iter().zip(want.iter().zip(doubt)) {
            // What an earlier rounding leaves open is not held against the output.
            let want = want + (have - want).max(-doubt).min(*doubt);
            let ulp = if want.is_finite() { ulp_error(tensor.dtype, *have as f32, want) } else { 0.0 };
            if ulp > self.worst_ulp {
                self.worst_ulp = ulp;
                self.at = format!("{} row {row}", tensor.name);
            }
            wrong |= ulp > 0.5 + 1e-3 && (have - want).abs() > NOISE * largest + half_ulp(tensor.dtype, want);
        }
        self.rows += 1;
        self.wrong += u64::from(wrong);
    }
}

/// Half a unit in the last place at `value`.
fn half_ulp(dtype: Dtype, value: f64) -> f64 {
    let digits = match dtype {
        Dtype::BF16 => 8,
        Dtype::F16 => 11,
        _ => 24,
    };
    value.abs() * 2f64.powi(-digits)
}

/// `model.layers.*.self_attn.q_proj.weight`.
fn kind(name: &str) -> String {
    name.split('.').map(|p| if p.bytes().all(|b| b.is_ascii_digit()) { "*" } else { p }).collect::<Vec<_>>().join(".")
}

/// At most `n` of `rows` rows, first and last among them.
fn spread(rows: u64, n: u64) -> Vec<u64> {
    let n = n.min(rows);
    match n {
        0 => Vec::new(),
        1 => vec![0],
        _ => (0..n).map(|i| (u128::from(i) * u128::from(rows - 1) / u128::from(n - 1)) as u64).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampled_rows_hold_the_first_and_the_last() {
        assert_eq!(spread(10, 3), [0, 4, 9]);
        assert_eq!(spread(2, 8), [0, 1]);
        assert_eq!(spread(5, 1), [0]);
        assert!(spread(0, 4).is_empty());
    }
}
