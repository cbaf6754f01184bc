//! One part of an output file: what lies in it, fetched, fused, and cut to the part's bytes.
//!
//! Fetching comes first, in the part's turn ([`super::flow`]) and all of it at the same time: the start of the file, the
//! base's rows (small neighbours in one read), and what the steps need. Then the tensors are fused one after another, each
//! on all threads. Other parts fetch, fuse and put meanwhile, as many as the budget holds.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::future::try_join_all;
use shardfuse_merge::inventory::ObjectId;
use shardfuse_merge::plan::task::{Fill, overlapping};
use shardfuse_merge::recipe::op::NoNorm;
use shardfuse_merge::recipe::{Fuse, Placed, Recipe};
use shardfuse_merge::tensor::matrix;
use shardfuse_merge::{Dtype, DtypeExt, Kind};

use super::coalesce::{GAP, MOST, coalesce};
use super::inputs::Inputs;
use super::statistics::Statistics;
use super::steps::{self, Extent, Steps};
use super::threads::Threads;
use super::{Shared, Stage, gpu};
use crate::Failure;
use crate::device::cpu::Kernels;
use crate::device::cuda::{Sink, Wrong};

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
    let len = range.end - range.start;
    if straight(fill, &range).is_some() {
        return len;
    }
    let reads: u64 = reads(fill, &range).iter().map(|(_, r)| r.end - r.start).sum();
    let (threads, loading) = (shared.threads.count() as u64, shared.loading.bytes());
    let fused = overlapping(&fill.tensors, &range).map(|t| match &t.recipe {
        Recipe::Copy(_) => 0,
        Recipe::Fuse(fuse) => {
            let (_, cols) = matrix(&t.shape);
            let rows = rows_of(t, &range);
            // A GPU takes the left factor's rows of whole tiles.
            let rows = gpu::path(shared, t, fuse).map_or(rows.clone(), |(_, tiling)| tiling.cover(&rows));
            let rows = rows.end - rows.start;
            // A row that is larger than a tile is a tile, on every thread: in fp32, as it starts, encoded, and twice more
            // for the two products of a Hadamard delta.
            let wide = if steps::rows_of_a_tile(cols) == 1 { threads.min(rows) * cols * 24 } else { 0 };
            wide + steps::held(&fuse.steps, rows, cols, loading)
        }
    });
    let fused: u64 = fused.fold(0, u64::saturating_add);
    len.saturating_add(reads).saturating_add(fused)
}

/// Where a part lies in an input, if it is one piece of one object.
fn straight(fill: &Fill, range: &Range<u64>) -> Option<(ObjectId, u64)> {
    let mut at = range.start;
    let mut whole: Option<(ObjectId, u64)> = None;
    for t in overlapping(&fill.tensors, range) {
        let Recipe::Copy(source) = &t.recipe else { return None };
        let cut = cut(t, range);
        let from = (source.object, source.offset + (cut.start - t.offset));
        let (object, start) = *whole.get_or_insert(from);
        if cut.start != at || from != (object, start + (at - range.start)) {
            return None;
        }
        at = cut.end;
    }
    whole.filter(|_| at == range.end)
}

/// The bytes of a tensor that lie in a range of the file.
fn cut(t: &Placed, range: &Range<u64>) -> Range<u64> {
    t.offset.max(range.start)..(t.offset + t.length).min(range.end)
}

/// What a tensor starts from in a range of the file: bytes to copy, or whole rows.
fn start_of(t: &Placed, range: &Range<u64>) -> (ObjectId, Range<u64>) {
    match &t.recipe {
        Recipe::Copy(source) => {
            let cut = cut(t, range);
            let at = source.offset + (cut.start - t.offset);
            (source.object, at..at + (cut.end - cut.start))
        }
        Recipe::Fuse(fuse) => {
            let (_, cols) = matrix(&t.shape);
            let rows = rows_of(t, range);
            let row = cols * fuse.start.dtype.bytes().unwrap_or(0);
            (fuse.start.object, fuse.start.offset + rows.start * row..fuse.start.offset + rows.end * row)
        }
    }
}

/// The reads that a range of the file starts from, small neighbours as one.
fn reads(fill: &Fill, range: &Range<u64>) -> Vec<(ObjectId, Range<u64>)> {
    let mut by_object: Vec<(ObjectId, Vec<Range<u64>>)> = Vec::new();
    for t in overlapping(&fill.tensors, range) {
        let (object, bytes) = start_of(t, range);
        match by_object.iter_mut().find(|(id, _)| *id == object) {
            Some((_, list)) => list.push(bytes),
            None => by_object.push((object, vec![bytes])),
        }
    }
    by_object
        .into_iter()
        .flat_map(|(object, list)| coalesce(&list, GAP, MOST).into_iter().map(move |read| (object, read)))
        .collect()
}

/// Makes a part.
pub async fn fill(
    shared: &Shared,
    inputs: &Inputs,
    statistics: &Statistics,
    fill: &Fill,
    part: u32,
) -> Result<Filled, Failure> {
    let turn = shared.reads.turn().await;
    let fetching = Instant::now();
    let range = range_of(fill, part);
    let tensors: Vec<&Placed> = overlapping(&fill.tensors, &range).collect();
    let len = (range.end - range.start) as usize;
    if let Some((object, offset)) = straight(fill, &range) {
        let read = inputs.read(object, offset, shared.budget.buffer(len)).await;
        let bytes = read.map_err(|f| f.at(names(&tensors)))?;
        turn.moved(bytes.len() as u64);
        shared.took(Stage::Fetch, fetching);
        return Ok(Filled { bytes, seen: Vec::new() });
    }
    let header = async {
        match fill.header.1.min(range.end) {
            end if range.start < end => inputs.read_own(&fill.header.0, range.start..end).await,
            _ => Ok(Vec::new()),
        }
    };
    let starts = try_join_all(reads(fill, &range).into_iter().map(|(object, read)| {
        let tensors = &tensors;
        let within = range.clone();
        async move {
            let bytes = inputs.lend(shared, object, read.clone()).await.map_err(|f| {
                let of = tensors.iter().copied().filter(|t| {
                    let (id, start) = start_of(t, &within);
                    id == object && read.start <= start.start && start.end <= read.end
                });
                f.at(names(&of.collect::<Vec<_>>()))
            })?;
            Ok::<_, Failure>((object, read, bytes))
        }
    }));
    let loads = try_join_all(tensors.iter().map(|t| {
        let rows = rows_of(t, &range);
        async move {
            let Recipe::Fuse(fuse) = &t.recipe else { return Ok(None) };
            let (_, cols) = matrix(&t.shape);
            let loaded = match gpu::path(shared, t, fuse) {
                Some(path) => gpu::load(shared, inputs, statistics, path, fuse, rows).await.map(Loaded::Gpu),
                None => {
                    let extent = Extent { rows, cols };
                    steps::load(shared, inputs, &fuse.steps, extent, statistics).await.map(Loaded::Cpu)
                }
            };
            loaded.map(Some).map_err(|f| f.at(format_args!("tensor {}", t.name)))
        }
    }));
    let (header, starts, loads) = futures::try_join!(header, starts, loads)?;
    turn.moved(starts.iter().map(|(_, _, bytes)| bytes.len() as u64).sum());
    shared.took(Stage::Fetch, fetching);

    let fusing = Instant::now();
    let mut out = shared.budget.buffer(len);
    out[..header.len()].copy_from_slice(&header);
    let mut filled = header.len() as u64;
    let mut seen = Vec::new();
    for (t, steps) in tensors.into_iter().zip(loads) {
        let cut = cut(t, &range);
        let target = (cut.start - range.start) as usize..(cut.end - range.start) as usize;
        filled += cut.end - cut.start;
        let (object, start) = start_of(t, &range);
        let held =
            starts.iter().find(|(id, read, _)| *id == object && read.start <= start.start && start.end <= read.end);
        let Some((_, read, bytes)) = held else {
            return Err(Failure::local(format!("tensor {}: what it starts from was not read", t.name)));
        };
        let raw = bytes.slice((start.start - read.start) as usize..(start.end - read.start) as usize);
        match (&t.recipe, steps) {
            (Recipe::Fuse(fuse), Some(Loaded::Gpu(loaded))) => {
                let from = raw.len() as u64;
                metrics::counter!("shardfuse_fused_bytes_total", "device" => "cuda").increment(from);
                let sink = Sink { out, target, skip: skip_of(t, &range) };
                let done = gpu::fuse(shared, inputs, t, fuse, loaded, raw, sink, &mut seen).await;
                out = done.map_err(|wrong| Blame::new(t, fuse).wrong(fuse, wrong))?;
                inputs.meter().fused(from);
            }
            (Recipe::Fuse(fuse), Some(Loaded::Cpu(mut steps))) => {
                seen.append(&mut steps.seen);
                let from = raw.len() as u64;
                metrics::counter!("shardfuse_fused_bytes_total", "device" => "cpu").increment(from);
                out = fuse_into(shared, inputs, t, fuse, steps, &range, raw, (out, target)).await?;
                inputs.meter().fused(from);
            }
            (Recipe::Copy(_) | Recipe::Fuse(_), _) => out[target].copy_from_slice(&raw),
        }
    }
    if filled != range.end - range.start {
        return Err(Failure::permanent(
            Kind::Internal,
            format!("the assignment describes {filled} of the {} bytes of part {part}", range.end - range.start),
        ));
    }
    shared.took(Stage::Fuse, fusing);
    Ok(Filled { bytes: out, seen })
}

/// What the fusion of a tensor needs, for the device that does it.
enum Loaded {
    Cpu(Steps),
    Gpu(gpu::Loaded),
}

/// Names tensors in a failure, the first of them at least.
fn names(tensors: &[&Placed]) -> String {
    match tensors {
        [] => "no tensor".to_owned(),
        [one] => format!("tensor {}", one.name),
        [first, rest @ ..] => format!("tensor {} and {} after it", first.name, rest.len()),
    }
}

/// The rows of a tensor that a range of the file touches.
fn rows_of(t: &Placed, range: &Range<u64>) -> Range<u64> {
    let (rows, cols) = matrix(&t.shape);
    let row = (cols * t.dtype.bytes().unwrap_or(1)).max(1);
    let start = range.start.saturating_sub(t.offset) / row;
    let end = range.end.min(t.offset + t.length).saturating_sub(t.offset).div_ceil(row);
    start..end.min(rows)
}

/// Bytes of the touched rows that lie before a range of the file.
fn skip_of(t: &Placed, range: &Range<u64>) -> usize {
    let (_, cols) = matrix(&t.shape);
    let row_bytes = cols * t.dtype.bytes().unwrap_or(0);
    range.start.saturating_sub(t.offset).saturating_sub(rows_of(t, range).start * row_bytes) as usize
}

#[allow(clippy::too_many_arguments, reason = "one call site; a struct would only rename the list")]
async fn fuse_into(
    shared: &Shared,
    inputs: &Inputs,
    t: &Placed,
    fuse: &Fuse,
    steps: Steps,
    range: &Range<u64>,
    raw: Bytes,
    (mut out, target): (Vec<u8>, Range<usize>),
) -> Result<Vec<u8>, Failure> {
    let (_, cols) = matrix(&t.shape);
    let rows = rows_of(t, range);
    let skip = skip_of(t, range);
    let tile = Tile { from: fuse.start.dtype, to: t.dtype, cols: cols as usize, keep_non_finite: fuse.keep_non_finite };
    let blame = Blame::new(t, fuse);
    let kernels = shared.kernels;
    let steps = Arc::new(steps);
    if steps.in_memory() {
        let fuse = move |threads: &Threads| {
            let apply = |first: u64, w: &mut [f32]| steps.apply(&kernels, first, w);
            tiles(threads, &kernels, rows.start, &tile, &blame, &raw, &mut out[target], skip, apply)?;
            Ok(out)
        };
        return shared.compute(fuse).await;
    }
    let len = ((rows.end - rows.start) * cols) as usize;
    let from = raw.clone();
    let decode = move |_: &Threads| {
        let mut w = vec![0.0f32; len];
        kernels.decode(tile.from, &from, &mut w);
        Ok(w)
    };
    let w = shared.compute(decode).await?;
    let w = steps.apply_by_ranges(shared, inputs, w).await.map_err(|f| blame.name(f))?;
    let encode = move |threads: &Threads| {
        let ready = |first: u64, tile: &mut [f32]| {
            let at = ((first - rows.start) * cols) as usize;
            tile.copy_from_slice(&w[at..at + tile.len()]);
            Ok(())
        };
        tiles(threads, &kernels, rows.start, &tile, &blame, &raw, &mut out[target], skip, ready)?;
        Ok(out)
    };
    shared.compute(encode).await
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

/// Fuses all rows in tiles, in parallel. `raw` is rows from `begin` on; `out` starts `skip` bytes into the first of them.
/// `apply` gets the first row of a tile and its values.
#[allow(clippy::too_many_arguments, reason = "two call sites; a struct would only rename the list")]
fn tiles(
    threads: &Threads,
    kernels: &Kernels,
    begin: u64,
    tile: &Tile,
    blame: &Blame,
    raw: &[u8],
    out: &mut [u8],
    skip: usize,
    apply: impl Fn(u64, &mut [f32]) -> Result<(), Failure> + Sync + Send,
) -> Result<(), Failure> {
    let in_row = tile.cols * tile.from.bytes().unwrap_or(0) as usize;
    let out_row = tile.cols * tile.to.bytes().unwrap_or(0) as usize;
    let per_tile = steps::rows_of_a_tile(tile.cols as u64);
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
    threads.each(jobs, Vec::<f32>::new, |w, (i, raw, skip, out)| {
        let first = begin + (i * per_tile) as u64;
        let rows = raw.len() / in_row;
        w.resize(rows * tile.cols, 0.0);
        kernels.decode(tile.from, raw, w);
        apply(first, w).map_err(|f| blame.name(f))?;
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
                let inputs = fuse.steps[step].op.own_inputs();
                let tensor = inputs.first().map_or(String::new(), |input| input.operand.source.name.clone());
                self.name(steps::no_norm(NoNorm { tensor, output: row, norm: f64::from(norm) }))
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
