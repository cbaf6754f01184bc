//! Low-rank factors: read, upcast to fp32, laid out for the kernels, and kept while neighbouring parts need them.
//!
//! The right factor [rank, cols] serves every row of a tensor and is kept. Of the left factor [rows, rank] each row is
//! needed once, so only the rows of a part are read. A right factor larger than the share for loading is not kept whole:
//! it is read by column ranges, once for each part.

use std::ops::Range;
use std::sync::Arc;

use shardfuse_merge::inventory::Source;
use shardfuse_merge::recipe::{Factor, LowRank, matrix};
use shardfuse_merge::{DtypeExt, Kind};

use super::Shared;
use super::budget::Share;
use super::cache::Cache;
use super::coalesce::{GAP, MOST};
use super::inputs::{AT_A_TIME, Inputs, Version};
use crate::Failure;
use crate::device::cpu::{Kernels, Packed};

/// A factor in its object, and whether it is transposed.
pub type Key = (Version, u64, bool);
/// Packed right factors.
pub type Factors = Cache<Key, Ready>;

/// A right factor as the kernels take it.
#[derive(Debug)]
pub struct Ready {
    /// The values.
    pub packed: Packed,
    /// Whether all of them are zero.
    pub zero: bool,
}

/// A right factor.
#[derive(Debug, Clone)]
pub enum Right {
    /// All of it, packed.
    Whole(Arc<Ready>),
    /// Too large to keep: read by column ranges of this width.
    Ranges(u64),
}

/// fp32 bytes of a factor.
fn fp32(delta: &LowRank, cols: u64) -> u64 {
    4 * delta.rank * cols
}

/// Whether a right factor is kept whole, with `loading` bytes for loading factors. Laying it out takes as much
/// again beside the place it is kept in.
pub fn is_whole(delta: &LowRank, cols: u64, loading: u64) -> bool {
    fp32(delta, cols) <= loading
}

/// Bytes of memory that a part holds of a delta: rows of the left factor while they are read and laid out, and the right
/// factor while it is used.
pub fn held(delta: &LowRank, rows: u64, cols: u64, height: u64, loading: u64) -> u64 {
    let strided = match delta.left.transposed {
        false => 0,
        true => (height * delta.rank * delta.left.source.dtype.bytes().unwrap_or(4)).min(AT_A_TIME as u64 * MOST),
    };
    let right = if is_whole(delta, cols, loading) { fp32(delta, cols) } else { 0 };
    rows * delta.rank * 12 + strided + right
}

/// The right factor of a delta over `cols` columns.
pub async fn right(shared: &Shared, inputs: &Inputs, delta: &LowRank, cols: u64) -> Result<Right, Failure> {
    let loading = shared.loading.bytes();
    if !is_whole(delta, cols, loading) {
        // Raw, decoded and packed values of two ranges fit at a time.
        let width = loading / (16 * delta.rank) / 64 * 64;
        return Ok(Right::Ranges(width.max(64).min(cols)));
    }
    let source = &delta.right.source;
    let key = (inputs.version(source.object)?, source.offset, delta.right.transposed);
    let load = async {
        let _share = shared.loading.take(fp32(delta, cols)).await;
        load(shared, inputs, delta, cols, 0..cols).await
    };
    shared.factors.get(key, fp32(delta, cols), load).await.map(Right::Whole)
}

/// Columns `range` of the right factor, packed, with the share that covers them.
pub async fn right_range(
    shared: &Shared,
    inputs: &Inputs,
    delta: &LowRank,
    cols: u64,
    range: Range<u64>,
) -> Result<(Ready, Share), Failure> {
    let share = shared.loading.take(8 * delta.rank * (range.end - range.start)).await;
    Ok((load(shared, inputs, delta, cols, range).await?, share))
}

async fn load(
    shared: &Shared,
    inputs: &Inputs,
    delta: &LowRank,
    cols: u64,
    range: Range<u64>,
) -> Result<Ready, Failure> {
    let width = (range.end - range.start) as usize;
    let (rank, kernels) = (delta.rank as usize, shared.kernels);
    let source = delta.right.source.clone();
    let object = inputs.version(source.object)?;
    let (raw, transposed) = columns(shared, inputs, &delta.right, cols, delta.rank, range).await?;
    let budget = shared.budget.clone();
    shared
        .compute(move |_| {
            // Each form goes before the next but one is made.
            let values = decode(&kernels, &source, &object, &raw)?;
            budget.give(raw);
            let values = if transposed { transpose(&values, width, rank) } else { values };
            Ok(Ready { zero: kernels.all_zero(&values), packed: kernels.pack(&values, rank, width) })
        })
        .await
}

/// Rows `range` of the left factor as [rows, rank] in fp32. `rows` is the height of the whole factor.
pub async fn left(
    shared: &Shared,
    inputs: &Inputs,
    delta: &LowRank,
    rows: u64,
    range: Range<u64>,
) -> Result<Vec<f32>, Failure> {
    // Seen from the other side: rows of the left factor are columns of its transpose.
    let height = (range.end - range.start) as usize;
    let (rank, kernels) = (delta.rank as usize, shared.kernels);
    let source = delta.left.source.clone();
    let object = inputs.version(source.object)?;
    let flipped = Factor { source: source.clone(), transposed: !delta.left.transposed };
    let (raw, by_rows) = columns(shared, inputs, &flipped, rows, delta.rank, range).await?;
    let budget = shared.budget.clone();
    shared
        .compute(move |_| {
            let values = decode(&kernels, &source, &object, &raw)?;
            budget.give(raw);
            Ok(if by_rows { values } else { transpose(&values, rank, height) })
        })
        .await
}

/// The bytes of columns `range` of a [rank, cols] factor. Returns them with whether they came as [cols, rank].
async fn columns(
    shared: &Shared,
    inputs: &Inputs,
    factor: &Factor,
    cols: u64,
    rank: u64,
    range: Range<u64>,
) -> Result<(Vec<u8>, bool), Failure> {
    let source = &factor.source;
    let size = source.dtype.bytes().unwrap_or(0);
    if source.elements() != cols * rank {
        return Err(Failure::local(format!(
            "factor {} of shape {:?} is not {rank} x {cols}",
            source.name, source.shape
        )));
    }
    let width = range.end - range.start;
    if factor.transposed {
        let buf = shared.budget.buffer((width * rank * size) as usize);
        return Ok((inputs.read(source.object, source.offset + range.start * rank * size, buf).await?, true));
    }
    if width == cols {
        let buf = shared.budget.buffer((cols * rank * size) as usize);
        return Ok((inputs.read(source.object, source.offset, buf).await?, false));
    }
    let start = source.offset + range.start * size;
    let pieces: Vec<_> = (0..rank).map(|k| start + k * cols * size).map(|at| at..at + width * size).collect();
    // What is read in vain stays in proportion to what is needed.
    let gap = GAP.min(4 * width * size);
    Ok((inputs.read_ranges(shared, source.object, &pieces, gap).await?, false))
}

/// Upcasts adapter values, which must be finite.
pub fn decode(kernels: &Kernels, source: &Source, object: &Version, raw: &[u8]) -> Result<Vec<f32>, Failure> {
    let size = source.dtype.bytes().unwrap_or(1) as usize;
    let mut values = vec![0.0; raw.len() / size];
    kernels.decode(source.dtype, raw, &mut values);
    if kernels.all_finite(&values) {
        return Ok(values);
    }
    let what =
        values.iter().find(|v| !v.is_finite()).map_or("a value", |v| if v.is_nan() { "NaN" } else { "infinity" });
    Err(Failure::permanent(Kind::NonFinite, format!("{object}: holds {what}"))
        .hint("the training diverged, or the file is damaged"))
}

/// [rows, cols] to [cols, rows].
fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut out = vec![0.0; values.len()];
    for r0 in (0..rows).step_by(TILE) {
        for c0 in (0..cols).step_by(TILE) {
            for r in r0..(r0 + TILE).min(rows) {
                for c in c0..(c0 + TILE).min(cols) {
                    out[c * rows + r] = values[r * cols + c];
                }
            }
        }
    }
    out
}

/// Rows `ranges` of an adapter tensor seen as a matrix, behind one another in fp32.
pub async fn matrix_rows(
    shared: &Shared,
    inputs: &Inputs,
    source: &Source,
    ranges: &[Range<u64>],
) -> Result<Vec<f32>, Failure> {
    let (_, cols) = matrix(&source.shape);
    let row = cols * source.dtype.bytes().unwrap_or(0);
    let bytes: Vec<_> = ranges.iter().map(|r| source.offset + r.start * row..source.offset + r.end * row).collect();
    let raw = inputs.read_ranges(shared, source.object, &bytes, GAP.min(row)).await?;
    let (kernels, source, budget) = (shared.kernels, source.clone(), shared.budget.clone());
    let object = inputs.version(source.object)?;
    shared
        .compute(move |_| {
            let values = decode(&kernels, &source, &object, &raw);
            budget.give(raw);
            values
        })
        .await
}
