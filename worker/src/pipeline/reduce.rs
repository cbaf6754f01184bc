//! One block of a statistic: its rows, fetched, stepped and reduced.

use std::sync::Arc;

use shardfuse_merge::DtypeExt;
use shardfuse_merge::plan::task::Reduce;
use shardfuse_merge::tensor::matrix;

use super::Shared;
use super::inputs::Inputs;
use super::statistics::Statistics;
use super::steps::{self, Extent};
use super::threads::Threads;
use crate::Failure;

/// Bytes of memory that one block takes.
pub fn need(shared: &Shared, reduce: &Reduce) -> u64 {
    let statistic = &reduce.statistic;
    let (rows, cols) = matrix(&statistic.start.shape);
    let height = rows.min(statistic.kind.block_rows());
    height
        .saturating_mul(cols)
        .saturating_mul(statistic.start.dtype.bytes().unwrap_or(4) + 4)
        .saturating_add(steps::held(&statistic.steps, height, cols, shared.loading.bytes()))
        .saturating_add(statistic.kind.bytes(cols))
}

/// The state of one block.
pub async fn block(
    shared: &Shared,
    inputs: &Inputs,
    statistics: &Statistics,
    reduce: &Reduce,
    block: u32,
) -> Result<Vec<u8>, Failure> {
    let (start, kind) = (&reduce.statistic.start, reduce.statistic.kind);
    let (height, cols) = matrix(&start.shape);
    let first = u64::from(block) * kind.block_rows();
    if first >= height {
        return Err(Failure::local(format!("block {block} lies behind the {height} rows of {}", start.name)));
    }
    let rows = first..(first + kind.block_rows()).min(height);
    let size = start.dtype.bytes().unwrap_or(0);
    let turn = shared.reads.turn().await;
    let read = inputs.read(
        start.object,
        start.offset + first * cols * size,
        shared.budget.buffer(((rows.end - rows.start) * cols * size) as usize),
    );
    let load = steps::load(shared, inputs, &reduce.statistic.steps, Extent { rows: rows.clone(), cols }, statistics);
    let tensor = reduce.statistic.tensor.clone();
    let name = move |f: Failure| f.at(format_args!("tensor {tensor}"));
    let (raw, steps) = futures::try_join!(read, load).map_err(&name)?;
    turn.moved(raw.len() as u64);
    let steps = Arc::new(steps);
    let (kernels, dtype) = (shared.kernels, start.dtype);
    let len = ((rows.end - rows.start) * cols) as usize;
    let budget = shared.budget.clone();
    let decode = move |_: &Threads| {
        let mut w = vec![0.0f32; len];
        kernels.decode(dtype, &raw, &mut w);
        budget.give(raw);
        Ok(w)
    };
    let w = shared.compute(decode).await?;
    let w = if steps.in_memory() {
        let steps = Arc::clone(&steps);
        let apply = move |threads: &Threads| {
            let mut w = w;
            // Tiles in parallel; the reduction runs over the block's rows in order afterwards.
            let tile = steps::rows_of_a_tile(cols);
            let tiles = w.chunks_mut(tile * cols as usize).enumerate().collect();
            threads.each(tiles, || (), |(), (i, w)| steps.apply(&kernels, rows.start + (i * tile) as u64, w))?;
            Ok(w)
        };
        shared.compute(apply).await.map_err(&name)?
    } else {
        steps.apply_by_ranges(shared, inputs, w).await.map_err(&name)?
    };
    shared.compute(move |_| Ok(kind.accumulate(&kernels, cols, &w))).await
}
