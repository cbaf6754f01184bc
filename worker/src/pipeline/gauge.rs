//! Measuring: the sum of squares of each column over a block of rows, in f64 and in row order.

use std::sync::Arc;

use shardfuse_merge::DtypeExt;
use shardfuse_merge::plan::task::{BLOCK_ROWS, Gauge};
use shardfuse_merge::recipe::matrix;

use super::Shared;
use super::inputs::Inputs;
use super::measured::Norms;
use super::steps::{self, Extent};
use super::threads::Threads;
use crate::Failure;

/// Bytes of memory that one block takes.
pub fn need(shared: &Shared, gauge: &Gauge) -> u64 {
    let (rows, cols) = matrix(&gauge.measure.start.shape);
    let height = rows.min(BLOCK_ROWS);
    let extent = Extent { rows, cols };
    height
        .saturating_mul(cols)
        .saturating_mul(gauge.measure.start.dtype.bytes().unwrap_or(4) + 4)
        .saturating_add(steps::held(&gauge.measure.steps, height, extent, shared.loading.bytes()))
        .saturating_add(cols * 8)
}

/// The sums of one block.
pub async fn block(
    shared: &Shared,
    inputs: &Inputs,
    norms: &Norms,
    gauge: &Gauge,
    block: u32,
) -> Result<Vec<f64>, Failure> {
    let start = &gauge.measure.start;
    let (height, cols) = matrix(&start.shape);
    let first = u64::from(block) * BLOCK_ROWS;
    if first >= height {
        return Err(Failure::local(format!("block {block} lies behind the {height} rows of {}", start.name)));
    }
    let rows = first..(first + BLOCK_ROWS).min(height);
    let size = start.dtype.bytes().unwrap_or(0);
    let turn = shared.reads.turn().await;
    let read = inputs.read(
        start.object,
        start.offset + first * cols * size,
        shared.budget.buffer(((rows.end - rows.start) * cols * size) as usize),
    );
    let load = steps::load(shared, inputs, &gauge.measure.steps, Extent { rows: height, cols }, rows.clone(), norms);
    let tensor = gauge.measure.tensor.clone();
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
            // Tiles in parallel; the sums run over the block's rows in order afterwards.
            let tile = ((1 << 18) / cols as usize).max(1);
            let tiles = w.chunks_mut(tile * cols as usize).enumerate().collect();
            threads.each(tiles, || (), |(), (i, w)| steps.apply(&kernels, rows.start + (i * tile) as u64, w))?;
            Ok(w)
        };
        shared.compute(apply).await.map_err(&name)?
    } else {
        steps.apply_by_ranges(shared, inputs, rows.start, w).await.map_err(&name)?
    };
    shared
        .compute(move |_| {
            let mut sums = vec![0.0; cols as usize];
            kernels.add_column_squares(&mut sums, &w);
            Ok(sums)
        })
        .await
}
