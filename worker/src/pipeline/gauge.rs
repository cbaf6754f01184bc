//! Measuring: the sum of squares of each column over a block of rows, in f64 and in row order.

use std::sync::Arc;

use shardfuse_merge::DtypeExt;
use shardfuse_merge::plan::recipe::matrix;
use shardfuse_merge::plan::task::{BLOCK_ROWS, Gauge};

use super::Shared;
use super::inputs::Inputs;
use super::measured::Norms;
use super::steps::{self, Extent};
use crate::Failure;

/// Bytes of memory that one block takes.
pub fn need(gauge: &Gauge) -> u64 {
    let (rows, cols) = matrix(&gauge.measure.start.shape);
    let height = rows.min(BLOCK_ROWS);
    height * cols * (gauge.measure.start.dtype.bytes().unwrap_or(4) + 4)
        + steps::load_bytes(&gauge.measure.steps, height, cols)
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
    let raw = inputs
        .read(
            start.object,
            start.offset + first * cols * size,
            shared.budget.buffer(((rows.end - rows.start) * cols * size) as usize),
        )
        .await?;
    let steps =
        steps::load(shared, inputs, &gauge.measure.steps, Extent { rows: height, cols }, rows.clone(), norms).await?;
    let (kernels, dtype, tensor) = (shared.kernels, start.dtype, gauge.measure.tensor.clone());
    let name = move |mut f: Failure| {
        f.error = f.error.at(format!("tensor {tensor}"));
        f
    };
    let mut w = vec![0.0f32; ((rows.end - rows.start) * cols) as usize];
    kernels.decode(dtype, &raw, &mut w);
    shared.budget.give(raw);
    if steps.in_memory() {
        let steps = Arc::new(steps);
        shared
            .compute(move |pool| {
                use rayon::prelude::*;
                // Tiles in parallel; the sums run over the block's rows in order afterwards.
                let tile = ((1 << 18) / cols as usize).max(1);
                let done = pool.install(|| {
                    w.par_chunks_mut(tile * cols as usize)
                        .enumerate()
                        .try_for_each(|(i, w)| steps.apply(&kernels, rows.start + (i * tile) as u64, w))
                });
                done.map_err(name)?;
                let mut sums = vec![0.0; cols as usize];
                kernels.add_column_squares(&mut sums, &w);
                Ok(sums)
            })
            .await
    } else {
        steps.apply_by_ranges(shared, inputs, rows.start, &mut w).await.map_err(name)?;
        let mut sums = vec![0.0; cols as usize];
        kernels.add_column_squares(&mut sums, &w);
        Ok(sums)
    }
}
