//! A part's rows of one tensor, fused on a GPU: what the device needs is read, brought there, and the answer awaited.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use shardfuse_merge::plan::recipe::{Fuse, LowRank, Norm, Op, Placed, matrix};
use shardfuse_merge::DtypeExt;
use tracing::info;

use super::inputs::Inputs;
use super::measured::Norms;
use super::{Shared, factors, steps};
use crate::Failure;
use crate::device::Device;
use crate::device::cuda::{self, Gain, Gpu, Key, Program, Sink, Step, Tiling, Way, Wrong};

/// Bytes of fp32 that are read, checked and uploaded at a time of a factor that is too large to be held on the host.
const CHUNK: u64 = 16 << 20;

/// Reasons for a fallback that were told already.
#[derive(Debug, Default)]
pub struct Said(Mutex<HashSet<String>>);

/// A GPU and how it tiles the tensor; `None` where the host fuses it.
pub fn path(shared: &Shared, t: &Placed, fuse: &Fuse) -> Option<(Arc<Gpu>, Tiling)> {
    let Device::Cuda(gpu) = &shared.device else { return None };
    let (rows, cols) = matrix(&t.shape);
    match Way::of(fuse, t.dtype, rows, cols) {
        Way::Device(tiling) => Some((Arc::clone(gpu), tiling)),
        Way::Host => None,
        Way::NoPath(why) => {
            let mut said = shared.said.0.lock().unwrap_or_else(PoisonError::into_inner);
            if said.insert(why.clone()) {
                info!(tensor = %t.name, %why, "fused on the CPU, as all tensors like it: the GPU has no path for this");
            }
            None
        }
    }
}

/// What is fused: rows of one tensor, and their place in the part.
#[derive(Debug)]
pub struct Rows<'a> {
    /// The tensor.
    pub placed: &'a Placed,
    /// Its recipe.
    pub fuse: &'a Fuse,
    /// The rows.
    pub rows: Range<u64>,
    /// Their weights.
    pub raw: Vec<u8>,
    /// The part.
    pub sink: Sink,
}

/// A right factor on its way to the device.
enum Factor {
    /// It is there.
    There(Arc<cuda::Right>),
    /// It is on the host, in the order in which it is stored.
    Here(Vec<f32>),
    /// It is too large to be held on the host.
    Large,
}

/// Fuses the rows. Returns the part and the buffer of the weights, or what went wrong.
pub async fn fuse(
    shared: &Shared,
    inputs: &Inputs,
    norms: &Norms,
    (gpu, tiling): (Arc<Gpu>, Tiling),
    work: Rows<'_>,
    seen: &mut Vec<(String, bool)>,
) -> Result<(Vec<u8>, Vec<u8>), Wrong> {
    let Rows { placed, fuse, rows, raw, sink } = work;
    let (height, cols) = matrix(&placed.shape);
    let cover = tiling.cover(&rows);
    let failed = Wrong::Failed;
    let mut loaded = Vec::with_capacity(fuse.steps.len());
    for step in &fuse.steps {
        let Some(delta) = step.op.delta() else {
            return Err(failed(Failure::local("a step without a delta was sent to the device")));
        };
        let left = factors::left(shared, inputs, delta, height, cover.clone()).await.map_err(failed)?;
        seen.push((delta.left.source.name.clone(), shared.kernels.all_zero(&left)));
        let gain = gain(shared, inputs, norms, &step.op, cols, &rows).await.map_err(failed)?;
        let factor = fetch(shared, inputs, &gpu, delta, cols).await.map_err(failed)?;
        loaded.push((delta, left, gain, factor));
    }
    // From here to the hand-over only the device is waited for, by one part at a time.
    let bringing = gpu.bring().await;
    let mut steps = Vec::with_capacity(loaded.len());
    for (delta, left, gain, factor) in loaded {
        let right = bring(shared, inputs, &gpu, delta, cols, factor).await.map_err(failed)?;
        seen.push((delta.right.source.name.clone(), right.zero()));
        steps.push(Step { left, right, rank: delta.rank, scale: delta.scale, gain });
    }
    let program = Program { tiling, rows, from: fuse.start.dtype, to: placed.dtype, steps };
    let answer = gpu.submit(raw, program, sink);
    drop(bringing);
    answer.await.unwrap_or_else(|_| Err(failed(Failure::local(format!("{} does not answer", gpu.label())))))
}

async fn gain(
    shared: &Shared,
    inputs: &Inputs,
    norms: &Norms,
    op: &Op,
    cols: u64,
    rows: &Range<u64>,
) -> Result<Option<Gain>, Failure> {
    let Op::Dora { magnitude, norm, .. } = op else { return Ok(None) };
    Ok(Some(match norm {
        Norm::Rows => Gain::Rows {
            magnitudes: steps::vector(shared, inputs, magnitude, rows.clone()).await?,
            of_original: cuda::of_original(op),
        },
        Norm::Measured(id) => Gain::Columns(norms.gains(shared, inputs, *id, magnitude, cols).await?),
    }))
}

fn key(inputs: &Inputs, delta: &LowRank) -> Result<Key, Failure> {
    let source = &delta.right.source;
    let (url, pin) = inputs.identity(source.object)?;
    Ok((url, pin, source.offset))
}

/// Reads a right factor unless the device has it.
async fn fetch(shared: &Shared, inputs: &Inputs, gpu: &Gpu, delta: &LowRank, cols: u64) -> Result<Factor, Failure> {
    if let Some(right) = gpu.right(&key(inputs, delta)?) {
        return Ok(Factor::There(right));
    }
    if delta.rank * cols * 4 > shared.factors.limit() {
        return Ok(Factor::Large);
    }
    let (lines, _) = stored(delta, cols);
    Ok(Factor::Here(lines_of(shared, inputs, delta, cols, 0..lines).await?))
}

/// Puts a right factor on the device unless it is there.
async fn bring(
    shared: &Shared,
    inputs: &Inputs,
    gpu: &Arc<Gpu>,
    delta: &LowRank,
    cols: u64,
    factor: Factor,
) -> Result<Arc<cuda::Right>, Failure> {
    let key = key(inputs, delta)?;
    if let Factor::There(right) = factor {
        return Ok(right);
    }
    if let Some(right) = gpu.right(&key) {
        // Another part brought it meanwhile.
        return Ok(right);
    }
    let mut buffer = gpu.room(delta.rank * cols * 4).await?;
    let mut zero = true;
    let (lines, width) = stored(delta, cols);
    let mut whole = match factor {
        Factor::Here(values) => Some(values),
        _ => None,
    };
    let step = if whole.is_some() { lines } else { (CHUNK / (4 * width)).clamp(1, lines) };
    for start in (0..lines).step_by(step as usize) {
        let end = (start + step).min(lines);
        let values = match whole.take() {
            Some(values) => values,
            None => lines_of(shared, inputs, delta, cols, start..end).await?,
        };
        let (gpu, kernels) = (Arc::clone(gpu), shared.kernels);
        let (back, all_zero) = shared
            .compute(move |_| {
                gpu.put(&buffer, start * width, &values)?;
                Ok((buffer, kernels.all_zero(&values)))
            })
            .await?;
        buffer = back;
        zero &= all_zero;
    }
    Ok(gpu.keep(key, buffer, delta.right.transposed, zero))
}

/// A stored right factor: its lines, and the values of each.
fn stored(delta: &LowRank, cols: u64) -> (u64, u64) {
    if delta.right.transposed { (cols, delta.rank) } else { (delta.rank, cols) }
}

/// Lines of a right factor as it is stored, in fp32.
async fn lines_of(
    shared: &Shared,
    inputs: &Inputs,
    delta: &LowRank,
    cols: u64,
    lines: Range<u64>,
) -> Result<Vec<f32>, Failure> {
    let source = delta.right.source.clone();
    if source.elements() != cols * delta.rank {
        return Err(Failure::local(format!(
            "factor {} of shape {:?} is not {} x {cols}",
            source.name, source.shape, delta.rank
        )));
    }
    let line = stored(delta, cols).1 * source.dtype.bytes().unwrap_or(0);
    let buf = shared.budget.buffer(((lines.end - lines.start) * line) as usize);
    let raw = inputs.read(source.object, source.offset + lines.start * line, buf).await?;
    let kernels = shared.kernels;
    let (values, raw) =
        shared.compute(move |_| factors::decode(&kernels, &source, &raw).map(|values| (values, raw))).await?;
    shared.budget.give(raw);
    Ok(values)
}
