//! The path on this machine's CPU.

use std::sync::Arc;

use shardfuse_merge::recipe::Placed;

use super::blame::Blame;
use super::steps::{Seen, Steps};
use super::tile::{Tiles, rows_of_a_tile};
use crate::Failure;
use crate::device::Slice;
use crate::pipeline::part_plan::Rows;
use crate::pipeline::raw::Raw;
use crate::pipeline::read::Reader;
use crate::pipeline::shared::Shared;
use crate::pipeline::threads::Threads;

/// Bytes of memory for rows that are larger than a tile: such a row is a tile, on every thread. In fp32, as it starts,
/// encoded, and twice more for the two products of a Hadamard delta.
pub fn wide(shared: &Shared, rows: u64, cols: u64) -> u64 {
    let threads = shared.threads.count() as u64;
    if rows_of_a_tile(cols) == 1 { threads.min(rows) * cols * 24 } else { 0 }
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
    let seen = std::mem::take(&mut steps.seen);
    let blame = Blame::new(placed, rows.fuse);
    let tiles = Tiles {
        kernels: reader.shared.kernels,
        blame: blame.clone(),
        to: placed.dtype,
        cols: rows.cols as usize,
        keep_non_finite: rows.fuse.keep_non_finite,
    };
    let steps = Arc::new(steps);
    if steps.in_memory() {
        let kernels = reader.shared.kernels;
        let fuse = move |threads: &Threads| {
            let apply = |first, w: &mut [f32]| steps.apply(&kernels, first, w).map_err(|f| tiles.blame.name(f));
            tiles.fuse(threads, &raw, slice, apply)
        };
        return Ok((reader.shared.compute(fuse).await?, seen));
    }
    let w = steps.apply_to_all(reader, raw.clone()).await.map_err(|f| blame.name(f))?;
    let encode = move |threads: &Threads| {
        let ready = |first: u64, tile: &mut [f32]| {
            let at = (first - raw.rows().start) as usize * tiles.cols;
            tile.copy_from_slice(&w[at..at + tile.len()]);
            Ok(())
        };
        tiles.fuse(threads, &raw, slice, ready)
    };
    Ok((reader.shared.compute(encode).await?, seen))
}
