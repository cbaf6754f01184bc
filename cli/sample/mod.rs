//! `verify --sample`: rows of the output, computed once more from base and adapters in f64.
//!
//! Memory does not grow with the model: the sampled rows of a tensor are taken in batches, factors are
//! read in blocks, and [`CONCURRENT`] tensors are looked at at a time.

mod encoded;
mod exact;
mod found;
mod reader;
mod rows;

use std::collections::BTreeMap;
use std::ops::Range;

use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_coordinator::failure;
use shardfuse_merge::Result;
use shardfuse_merge::output::OutputFile;
use shardfuse_merge::plan::Plan;
use shardfuse_merge::recipe::{Placed, Recipe};
use shardfuse_merge::tensor::matrix;
use shardfuse_store::{Location, Stores};

use encoded::Encoded;
pub use exact::Exact;
pub use found::{Found, half_ulp};
pub use reader::Reader;
pub use rows::kind;
use rows::{batch_rows, spread};

/// Tensors that are looked at at a time.
const CONCURRENT: usize = 8;

/// Computes `per_tensor` rows of every tensor. The keys are tensor names with numbers replaced by `*`.
pub async fn sample(
    stores: &Stores,
    plan: &Plan,
    output: &Location,
    per_tensor: u64,
) -> Result<BTreeMap<String, Found>> {
    let reader = Reader::of(stores, plan);
    let tensors = || plan.output.files.iter().flat_map(|f| f.tensors.iter().map(move |t| (f, t)));
    let encoded = &Encoded::of(tensors());
    let looks: Vec<_> = tensors()
        .filter(|(_, t)| t.length > 0)
        .map(|(file, tensor)| look(&reader, output, (file, tensor), encoded, per_tensor))
        .collect();
    let all: Vec<(String, Found)> = stream::iter(looks).buffered(CONCURRENT).try_collect().await?;
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for (kind, of_tensor) in all {
        found.entry(kind).or_default().add(of_tensor);
    }
    Ok(found)
}

/// The tensors in some bytes of a file that have a wrong row, each with the row.
pub async fn wrong(
    stores: &Stores,
    plan: &Plan,
    output: &Location,
    file: &str,
    bytes: &[Range<u64>],
) -> Result<Vec<String>> {
    let reader = Reader::of(stores, plan);
    let encoded = Encoded::of(plan.output.files.iter().flat_map(|f| f.tensors.iter().map(move |t| (f, t))));
    let touched = |t: &&Placed| bytes.iter().any(|b| t.offset < b.end && b.start < t.offset + t.length);
    let of_file = plan.output.files.iter().filter(|f| f.name == file);
    let mut wrong = Vec::new();
    for (file, tensor) in of_file.flat_map(|f| f.tensors.iter().filter(touched).map(move |t| (f, t))) {
        let (_, found) = look(&reader, output, (file, tensor), &encoded, u64::MAX).await?;
        wrong.extend((found.wrong > 0).then_some(found.at));
    }
    Ok(wrong)
}

/// One tensor.
async fn look(
    reader: &Reader<'_>,
    output: &Location,
    (file, tensor): (&OutputFile, &Placed),
    encoded: &Encoded<'_>,
    per_tensor: u64,
) -> Result<(String, Found)> {
    if let Recipe::Requantise(requantise) = &tensor.recipe {
        return encoded.look(reader, output, tensor, requantise, per_tensor).await;
    }
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
            Recipe::Requantise(_) => {}
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
