//! Low-rank factors: read, upcast to fp32, laid out for the kernels, and kept while neighbouring parts need them.
//!
//! The right factor [rank, cols] serves every row of a tensor and is kept. Of the left factor [rows, rank] each row is
//! needed once, so only the rows of a part are read. A right factor larger than the cache's share is not kept whole: it
//! is read by column ranges, once a tile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use shardfuse_merge::plan::inventory::Source;
use shardfuse_merge::plan::recipe::{Factor, LowRank, matrix};
use shardfuse_merge::{DtypeExt, Kind};

use super::Shared;
use super::inputs::Inputs;
use crate::Failure;
use crate::device::cpu::Packed;

type Key = (Arc<str>, u64, bool);

/// A right factor as the kernels take it.
#[derive(Debug)]
pub struct Ready {
    /// The values.
    pub packed: Packed,
    /// Whether all of them are zero.
    pub zero: bool,
}

/// A packed factor and when it was last used.
type Slot = (Arc<Ready>, u64);

/// Packed right factors, least recently used out first.
#[derive(Debug)]
pub struct Factors {
    kept: Mutex<(HashMap<Key, Slot>, u64)>,
    limit: u64,
}

/// A right factor.
#[derive(Debug, Clone)]
pub enum Right {
    /// All of it, packed.
    Whole(Arc<Ready>),
    /// Too large to keep: read by column ranges of this width.
    Ranges(u64),
}

impl Factors {
    /// A cache of so many bytes.
    pub fn new(limit: u64) -> Self {
        Factors { kept: Mutex::default(), limit }
    }

    /// Bytes that it may take.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    fn get(&self, key: &Key) -> Option<Arc<Ready>> {
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.1 += 1;
        let now = kept.1;
        kept.0.get_mut(key).map(|slot| {
            slot.1 = now;
            Arc::clone(&slot.0)
        })
    }

    fn put(&self, key: Key, ready: &Arc<Ready>) {
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.1 += 1;
        let now = kept.1;
        kept.0.insert(key, (Arc::clone(ready), now));
        let mut size: u64 = kept.0.values().map(|s| s.0.packed.bytes() as u64).sum();
        while size > self.limit && kept.0.len() > 1 {
            let Some(oldest) = kept.0.iter().min_by_key(|(_, s)| s.1).map(|(k, _)| k.clone()) else { break };
            if let Some((ready, _)) = kept.0.remove(&oldest) {
                size -= ready.packed.bytes() as u64;
            }
        }
    }
}

/// The right factor of a delta over `cols` columns.
pub async fn right(shared: &Shared, inputs: &Inputs, delta: &LowRank, cols: u64) -> Result<Right, Failure> {
    let bytes = 4 * delta.rank * cols;
    if bytes > shared.factors.limit {
        let width = (shared.factors.limit / (4 * delta.rank)).clamp(64, cols) / 64 * 64;
        return Ok(Right::Ranges(width.max(1)));
    }
    let source = &delta.right.source;
    let key = (inputs.url(source.object)?, source.offset, delta.right.transposed);
    if let Some(ready) = shared.factors.get(&key) {
        return Ok(Right::Whole(ready));
    }
    let ready = Arc::new(right_range(shared, inputs, delta, cols, 0..cols).await?);
    shared.factors.put(key, &ready);
    Ok(Right::Whole(ready))
}

/// Columns `range` of the right factor, packed.
pub async fn right_range(
    shared: &Shared,
    inputs: &Inputs,
    delta: &LowRank,
    cols: u64,
    range: std::ops::Range<u64>,
) -> Result<Ready, Failure> {
    let width = range.end - range.start;
    let (rank, kernels) = (delta.rank as usize, shared.kernels);
    let source = delta.right.source.clone();
    let (raw, transposed) = columns(shared, inputs, &delta.right, cols, delta.rank, range).await?;
    let (ready, raw) = shared
        .compute(move |_| {
            let values = decode(&kernels, &source, &raw)?;
            let values = if transposed { transpose(&values, width as usize, rank) } else { values };
            Ok((Ready { zero: kernels.all_zero(&values), packed: kernels.pack(&values, rank, width as usize) }, raw))
        })
        .await?;
    shared.budget.give(raw);
    Ok(ready)
}

/// Rows `range` of the left factor as [rows, rank] in fp32. `rows` is the height of the whole factor.
pub async fn left(
    shared: &Shared,
    inputs: &Inputs,
    delta: &LowRank,
    rows: u64,
    range: std::ops::Range<u64>,
) -> Result<Vec<f32>, Failure> {
    // Seen from the other side: rows of the left factor are columns of its transpose.
    let height = (range.end - range.start) as usize;
    let (rank, kernels) = (delta.rank as usize, shared.kernels);
    let source = delta.left.source.clone();
    let flipped = Factor { source: source.clone(), transposed: !delta.left.transposed };
    let (raw, by_rows) = columns(shared, inputs, &flipped, rows, delta.rank, range).await?;
    let (values, raw) = shared
        .compute(move |_| {
            let values = decode(&kernels, &source, &raw)?;
            Ok((if by_rows { values } else { transpose(&values, rank, height) }, raw))
        })
        .await?;
    shared.budget.give(raw);
    Ok(values)
}

/// The bytes of columns `range` of a [rank, cols] factor. Returns them with whether they came as [cols, rank].
async fn columns(
    shared: &Shared,
    inputs: &Inputs,
    factor: &Factor,
    cols: u64,
    rank: u64,
    range: std::ops::Range<u64>,
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
    let at = source.offset + range.start * size;
    let raw =
        inputs.read_strided(source.object, at, cols * size, (width * size) as usize, rank, &shared.budget).await?;
    Ok((raw, false))
}

/// Upcasts adapter values, which must be finite.
pub fn decode(kernels: &crate::device::cpu::Kernels, source: &Source, raw: &[u8]) -> Result<Vec<f32>, Failure> {
    let size = source.dtype.bytes().unwrap_or(1) as usize;
    let mut values = vec![0.0; raw.len() / size];
    kernels.decode(source.dtype, raw, &mut values);
    if kernels.all_finite(&values) {
        return Ok(values);
    }
    let what =
        values.iter().find(|v| !v.is_finite()).map_or("a value", |v| if v.is_nan() { "NaN" } else { "infinity" });
    Err(Failure::permanent(Kind::NonFinite, format!("adapter tensor {} holds {what}", source.name))
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

/// Rows `range` of an adapter tensor seen as a matrix, in fp32.
pub async fn matrix_rows(
    shared: &Shared,
    inputs: &Inputs,
    source: &Source,
    range: std::ops::Range<u64>,
) -> Result<Vec<f32>, Failure> {
    let (_, cols) = matrix(&source.shape);
    let size = source.dtype.bytes().unwrap_or(0);
    let buf = shared.budget.buffer(((range.end - range.start) * cols * size) as usize);
    let raw = inputs.read(source.object, source.offset + range.start * cols * size, buf).await?;
    let values = decode(&shared.kernels, source, &raw)?;
    shared.budget.give(raw);
    Ok(values)
}
