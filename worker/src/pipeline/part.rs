//! One part of an output file: what lies in it, fetched, fused, and cut to the part's bytes.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;
use shardfuse_merge::plan::recipe::{Fuse, Placed, Recipe, matrix};
use shardfuse_merge::plan::task::{Fill, overlapping};
use shardfuse_merge::{Dtype, DtypeExt, Kind};

use super::inputs::Inputs;
use super::measured::Norms;
use super::steps::{self, Extent, Steps};
use super::{Shared, gpu};
use crate::Failure;
use crate::device::cpu::Kernels;
use crate::device::cuda::{Sink, Wrong};

/// fp32 bytes of a tile: small enough for the second-level cache.
const TILE: u64 = 1 << 20;

/// A finished part's bytes, and which factors were all zero in it.
#[derive(Debug)]
pub struct Filled {
    /// The bytes, in a lent buffer.
    pub bytes: Vec<u8>,
    /// Factor names and whether what was read of them is all zero.
    pub seen: Vec<(String, bool)>,
}

/// The file bytes of a part.
pub fn range_of(fill: &Fill, part: u32) -> Range<u64> {
    let start = u64::from(part) * fill.part_size;
    start..(start + fill.part_size).min(fill.size)
}

/// Bytes of memory that a part takes while it is made.
pub fn need(shared: &Shared, fill: &Fill, part: u32) -> u64 {
    let range = range_of(fill, part);
    let fused: u64 = overlapping(&fill.tensors, &range)
        .map(|t| match &t.recipe {
            Recipe::Copy(_) => 0,
            Recipe::Fuse(fuse) => {
                let (_, cols) = matrix(&t.shape);
                let rows = rows_of(t, &range);
                let height = rows.end - rows.start;
                let surplus = gpu::path(shared, t, fuse).map_or(0, |(_, tiling)| tiling.surplus(&rows));
                height * cols * fuse.start.dtype.bytes().unwrap_or(4)
                    + steps::load_bytes(&fuse.steps, height, cols)
                    + surplus
            }
        })
        .sum();
    (range.end - range.start) + fused
}

/// Makes a part.
pub async fn fill(shared: &Shared, inputs: &Inputs, norms: &Norms, fill: &Fill, part: u32) -> Result<Filled, Failure> {
    let range = range_of(fill, part);
    let tensors: Vec<&Placed> = overlapping(&fill.tensors, &range).collect();
    let len = (range.end - range.start) as usize;
    // A part that lies within one copied tensor is read straight into place.
    if let [only] = tensors.as_slice()
        && let Recipe::Copy(source) = &only.recipe
        && only.offset <= range.start
        && only.offset + only.length >= range.end
    {
        let bytes =
            inputs.read(source.object, source.offset + (range.start - only.offset), shared.budget.buffer(len)).await?;
        return Ok(Filled { bytes, seen: Vec::new() });
    }
    let mut out = shared.budget.buffer(len);
    let mut filled = 0u64;
    if range.start < fill.header.1 {
        let header = inputs.read_own(&fill.header.0, fill.header.1, None).await?;
        let end = fill.header.1.min(range.end);
        out[..(end - range.start) as usize].copy_from_slice(&header[range.start as usize..end as usize]);
        filled += end - range.start;
    }
    let mut seen = Vec::new();
    for t in tensors {
        let cut = t.offset.max(range.start)..(t.offset + t.length).min(range.end);
        let target = (cut.start - range.start) as usize..(cut.end - range.start) as usize;
        filled += cut.end - cut.start;
        match &t.recipe {
            Recipe::Copy(source) => {
                let from = inputs
                    .read(source.object, source.offset + (cut.start - t.offset), shared.budget.buffer(target.len()))
                    .await?;
                out[target].copy_from_slice(&from);
                shared.budget.give(from);
            }
            Recipe::Fuse(fuse) => {
                out = fuse_into(shared, inputs, norms, t, fuse, &range, (out, target), &mut seen).await?
            }
        }
    }
    if filled != range.end - range.start {
        return Err(Failure::local(format!(
            "the assignment describes {filled} of the {} bytes of part {part}",
            range.end - range.start
        )));
    }
    Ok(Filled { bytes: out, seen })
}

/// The rows of a tensor that a range of the file touches.
fn rows_of(t: &Placed, range: &Range<u64>) -> Range<u64> {
    let (rows, cols) = matrix(&t.shape);
    let row = (cols * t.dtype.bytes().unwrap_or(1)).max(1);
    let start = range.start.saturating_sub(t.offset) / row;
    let end = range.end.min(t.offset + t.length).saturating_sub(t.offset).div_ceil(row);
    start..end.min(rows)
}

#[allow(clippy::too_many_arguments, reason = "one call site; a struct would only rename the list")]
async fn fuse_into(
    shared: &Shared,
    inputs: &Inputs,
    norms: &Norms,
    t: &Placed,
    fuse: &Fuse,
    range: &Range<u64>,
    (mut out, target): (Vec<u8>, Range<usize>),
    seen: &mut Vec<(String, bool)>,
) -> Result<Vec<u8>, Failure> {
    let (height, cols) = matrix(&t.shape);
    let rows = rows_of(t, range);
    let size = fuse.start.dtype.bytes().unwrap_or(0);
    let raw = inputs
        .read(
            fuse.start.object,
            fuse.start.offset + rows.start * cols * size,
            shared.budget.buffer(((rows.end - rows.start) * cols * size) as usize),
        )
        .await?;
    // The part's bytes within the rows that are computed.
    let row_bytes = cols * t.dtype.bytes().unwrap_or(0);
    let skip = (range.start.saturating_sub(t.offset)).saturating_sub(rows.start * row_bytes) as usize;
    if let Some(device) = gpu::path(shared, t, fuse) {
        let work = gpu::Rows { placed: t, fuse, rows, raw, sink: Sink { out, target, skip } };
        let (out, raw) = gpu::fuse(shared, inputs, norms, device, work, seen)
            .await
            .map_err(|wrong| Blame::new(t, fuse).wrong(fuse, wrong))?;
        shared.budget.give(raw);
        return Ok(out);
    }
    let mut steps =
        steps::load(shared, inputs, &fuse.steps, Extent { rows: height, cols }, rows.clone(), norms).await?;
    seen.append(&mut steps.seen);
    let tile = Tile { from: fuse.start.dtype, to: t.dtype, cols: cols as usize, keep_non_finite: fuse.keep_non_finite };
    let blame = Blame::new(t, fuse);
    let kernels = shared.kernels;
    if !steps.in_memory() {
        let mut w = vec![0.0f32; ((rows.end - rows.start) * cols) as usize];
        kernels.decode(tile.from, &raw, &mut w);
        steps.apply_by_ranges(shared, inputs, rows.start, &mut w).await.map_err(|f| blame.name(f))?;
        let mut whole = vec![0; w.len() * t.dtype.bytes().unwrap_or(0) as usize];
        tile.encode(&kernels, &raw, &w, &mut whole).map_err(|at| blame.non_finite(rows.start, cols, at, &w))?;
        let len = target.len();
        out[target].copy_from_slice(&whole[skip..skip + len]);
        shared.budget.give(raw);
        return Ok(out);
    }
    let steps = Arc::new(steps);
    let (out, raw) = shared
        .compute(move |pool| {
            let result = pool.install(|| tiles(&kernels, &steps, &tile, &blame, &raw, &mut out[target], skip));
            result.map(|()| (out, raw))
        })
        .await?;
    shared.budget.give(raw);
    Ok(out)
}

/// How a tile's values come in and go out.
#[derive(Debug, Clone, Copy)]
struct Tile {
    from: Dtype,
    to: Dtype,
    cols: usize,
    keep_non_finite: bool,
}

impl Tile {
    /// Rounds to the output dtype; the error is the index of a value that it cannot hold.
    fn encode(&self, kernels: &Kernels, raw: &[u8], w: &[f32], out: &mut [u8]) -> Result<(), usize> {
        let Some(first) = kernels.encode(self.to, w, out) else { return Ok(()) };
        if !self.keep_non_finite {
            return Err(first);
        }
        // A copy may keep the infinities that it came with, and may not make new ones.
        let mut before = vec![0.0; w.len()];
        kernels.decode(self.from, raw, &mut before);
        let mut after = vec![0.0; w.len()];
        kernels.decode(self.to, out, &mut after);
        match (0..w.len()).find(|i| before[*i].is_finite() && !after[*i].is_finite()) {
            Some(at) => Err(at),
            None => Ok(()),
        }
    }
}

/// Fuses all rows in tiles, in parallel. `out` starts `skip` bytes into the first row.
fn tiles(
    kernels: &Kernels,
    steps: &Steps,
    tile: &Tile,
    blame: &Blame,
    raw: &[u8],
    out: &mut [u8],
    skip: usize,
) -> Result<(), Failure> {
    let in_row = tile.cols * tile.from.bytes().unwrap_or(0) as usize;
    let out_row = tile.cols * tile.to.bytes().unwrap_or(0) as usize;
    let per_tile = ((TILE / 4) as usize / tile.cols.max(1)).max(1);
    let mut jobs = Vec::new();
    let mut rest = out;
    let mut at = skip;
    for (i, raw) in raw.chunks(per_tile * in_row).enumerate() {
        let end = (i * per_tile * out_row) + raw.len() / in_row * out_row;
        let (mine, next) = rest.split_at_mut((end - at).min(rest.len()));
        jobs.push((i, raw, at - i * per_tile * out_row, mine));
        at = end;
        rest = next;
    }
    jobs.into_par_iter().try_for_each_init(Vec::<f32>::new, |w, (i, raw, skip, out)| {
        let first = steps.range.start + (i * per_tile) as u64;
        let rows = raw.len() / in_row;
        w.resize(rows * tile.cols, 0.0);
        kernels.decode(tile.from, raw, w);
        steps.apply(kernels, first, w).map_err(|f| blame.name(f))?;
        let encode = |out: &mut [u8]| {
            tile.encode(kernels, raw, w, out).map_err(|at| blame.non_finite(first, tile.cols as u64, at, w))
        };
        if out.len() == rows * out_row {
            return encode(out);
        }
        let mut whole = vec![0; rows * out_row];
        encode(&mut whole)?;
        out.copy_from_slice(&whole[skip..skip + out.len()]);
        Ok(())
    })
}

/// Names tensor and adapters in a failure.
#[derive(Debug, Clone)]
struct Blame {
    tensor: String,
    dtype: Dtype,
    adapters: String,
}

impl Blame {
    fn new(t: &Placed, fuse: &Fuse) -> Self {
        let mut numbers: Vec<u16> =
            fuse.start_adapter.into_iter().chain(fuse.steps.iter().map(|s| s.adapter)).collect();
        numbers.dedup();
        let list: Vec<String> = numbers.iter().map(|n| format!("adapter {}", n + 1)).collect();
        let adapters = if list.is_empty() { String::new() } else { format!(" after {}", list.join(", ")) };
        Blame { tensor: t.name.clone(), dtype: t.dtype, adapters }
    }

    fn name(&self, mut failure: Failure) -> Failure {
        failure.error = failure.error.at(format!("tensor {}{}", self.tensor, self.adapters));
        failure
    }

    /// Says what a device found.
    fn wrong(&self, fuse: &Fuse, wrong: Wrong) -> Failure {
        match wrong {
            Wrong::NonFinite { row, col, value } => self.bad_value(row, col, value),
            Wrong::Norm { step, row, norm } => {
                let name = fuse.steps[step].op.sources().last().map_or("", |s| s.name.as_str());
                self.name(steps::no_norm(name, row, f64::from(norm)))
            }
            Wrong::Failed(failure) => failure,
        }
    }

    fn non_finite(&self, first: u64, cols: u64, at: usize, w: &[f32]) -> Failure {
        self.bad_value(first + at as u64 / cols, at as u64 % cols, w[at])
    }

    fn bad_value(&self, row: u64, col: u64, value: f32) -> Failure {
        let what = if value.is_finite() {
            format!("{value:e} overflows {}", self.dtype.name())
        } else {
            format!("the result is {value}")
        };
        let failure = Failure::permanent(
            Kind::NonFinite,
            format!("tensor {}, row {row}, column {col}{}: {what}", self.tensor, self.adapters),
        );
        if value.is_finite() {
            failure.hint("a wider output dtype holds it: --dtype bf16 or --dtype f32")
        } else {
            failure
        }
    }
}
