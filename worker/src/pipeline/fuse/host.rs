//! The path on this machine's CPU.

use std::sync::Arc;

use shardfuse_merge::base::scheme::claim::Whole;
use shardfuse_merge::recipe::Placed;

use super::blame::Blame;
use super::context::Context;
use super::effect::Watch;
use super::recode::Recode;
use super::seen::Seen;
use super::steps::Steps;
use super::tile::{Tiles, ready, rows_of_a_tile};
use crate::Failure;
use crate::device::Slice;
use crate::pipeline::part_plan::Rows;
use crate::pipeline::raw::Raw;
use crate::pipeline::read::Reader;
use crate::pipeline::shared::Shared;
use crate::pipeline::threads::Threads;

/// Bytes of memory for rows that are larger than a tile: such a row is a tile, on every thread. In fp32, as it starts,
/// encoded, twice more for the two products of a Hadamard delta, and as it was before a step.
pub fn wide(shared: &Shared, rows: u64, cols: u64) -> u64 {
    let threads = shared.threads.count() as u64;
    if rows_of_a_tile(cols) == 1 { threads.min(rows) * cols * 28 } else { 0 }
}

/// Computes rows, which start from `raw`, into a slice of the part. Returns the part.
pub async fn fuse(
    reader: Reader<'_>,
    placed: &Placed,
    rows: &Rows<'_>,
    mut steps: Steps,
    raw: Raw,
    slice: Slice,
) -> Result<(Vec<u8>, Seen), Failure> {
    let factors = std::mem::take(&mut steps.seen);
    let watch = Arc::new(Watch::new(&rows.fuse.steps, &steps.idle, Some(placed.dtype)));
    steps.watch = Some(Arc::clone(&watch));
    let context = context(reader, placed, rows);
    let blame = context.blame.clone();
    let tiles = Tiles { context, to: placed.dtype, keep_non_finite: rows.fuse.keep_non_finite };
    let compute = move |threads: &Threads, raw: &Raw, slice, apply: &Apply| tiles.fuse(threads, raw, slice, apply);
    let part = run(reader, steps, blame, raw, slice, compute).await?;
    Ok((part, Seen { factors, effects: watch.effects() }))
}

/// As [`fuse`], for codes and scales. The steps come with what is known of all rows, where one scale serves them.
pub async fn encode(
    reader: Reader<'_>,
    placed: &Placed,
    rows: &Rows<'_>,
    (mut steps, whole): (Steps, Option<Whole>),
    raw: Raw,
    slice: Slice,
) -> Result<(Vec<u8>, Seen), Failure> {
    let factors = std::mem::take(&mut steps.seen);
    let watch = Arc::new(Watch::new(&rows.fuse.steps, &steps.idle, None));
    steps.watch = Some(Arc::clone(&watch));
    let requantise = rows.requantise.ok_or_else(|| Failure::local("values without an encoding were to be encoded"))?;
    let context = context(reader, placed, rows);
    let blame = context.blame.clone();
    let recode = Recode { context, requantise: requantise.clone(), whole };
    let compute = move |threads: &Threads, raw: &Raw, slice, apply: &Apply| recode.fuse(threads, raw, slice, apply);
    let part = run(reader, steps, blame, raw, slice, compute).await?;
    Ok((part, Seen { factors, effects: watch.effects() }))
}

fn context(reader: Reader<'_>, placed: &Placed, rows: &Rows<'_>) -> Context {
    Context { kernels: reader.shared.kernels, blame: Blame::new(placed, rows.fuse), cols: rows.cols as usize }
}

/// Applies steps to a tile, from its first row and its values.
type Apply<'a> = dyn Fn(u64, &mut [f32]) -> Result<(), Failure> + Sync + Send + 'a;

/// Runs what computes rows of a part tile by tile: with the steps, or, where factors are read by ranges, with values that are
/// there already.
async fn run(
    reader: Reader<'_>,
    steps: Steps,
    blame: Blame,
    raw: Raw,
    slice: Slice,
    compute: impl FnOnce(&Threads, &Raw, Slice, &Apply) -> Result<Vec<u8>, Failure> + Send + 'static,
) -> Result<Vec<u8>, Failure> {
    let steps = Arc::new(steps);
    let raw = ready(reader.shared, raw).await?;
    if steps.in_memory() {
        let kernels = reader.shared.kernels;
        let with_steps = move |threads: &Threads| {
            let apply = |first, w: &mut [f32]| steps.apply(&kernels, first, w).map_err(|f| blame.name(f));
            compute(threads, &raw, slice, &apply)
        };
        return reader.shared.compute(with_steps).await;
    }
    let (cols, kernels, watch) = (steps.cols(), reader.shared.kernels, steps.watch.clone());
    let w = steps.apply_to_all(reader, raw.clone()).await.map_err(|f| blame.name(f))?;
    let ready = move |threads: &Threads| {
        let apply = |first: u64, tile: &mut [f32]| {
            let at = (first - raw.rows().start) as usize * cols;
            let after = &w[at..at + tile.len()];
            if let Some(watch) = watch.as_ref().filter(|watch| watch.waits_for_any()) {
                watch.saw_all(&kernels, tile, after);
            }
            tile.copy_from_slice(after);
            Ok(())
        };
        compute(threads, &raw, slice, &apply)
    };
    reader.shared.compute(ready).await
}
