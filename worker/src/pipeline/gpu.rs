//! A part's rows of one tensor, fused on a GPU: what the device needs is read, brought there, and the answer awaited.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::try_join_all;
use shardfuse_merge::DtypeExt;
use shardfuse_merge::recipe::{Fuse, LowRank, Norm, Op, Placed, Step, matrix};
use tracing::info;

use super::inputs::Inputs;
use super::measured::Norms;
use super::steps::{self, Extent};
use super::threads::Threads;
use super::{Shared, factors};
use crate::Failure;
use crate::device::Device;
use crate::device::cuda::{self, Gain, Gpu, Key, Program, Sink, Tiling, Way, Wrong};

/// Bytes of fp32 that are read, checked and uploaded at a time of a factor that is too large to be held on the host.
const CHUNK: u64 = 16 << 20;

/// Reasons for a fallback that were told already.
#[derive(Debug, Default)]
pub struct Said(Mutex<HashSet<String>>);

/// A GPU, and how it tiles a tensor.
type Path = (Arc<Gpu>, Tiling);

/// How a GPU fuses a tensor; `None` where the host does.
pub fn path(shared: &Shared, t: &Placed, fuse: &Fuse) -> Option<Path> {
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

/// What a GPU needs for rows of a tensor, on the host.
pub struct Loaded {
    path: Path,
    rows: Range<u64>,
    steps: Vec<Ready>,
}

/// A step's share of it.
struct Ready {
    left: Vec<f32>,
    zero: bool,
    gain: Option<Gain>,
    right: Factor,
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

/// Loads what the steps need for `rows`, all at the same time.
pub async fn load(
    shared: &Shared,
    inputs: &Inputs,
    norms: &Norms,
    path: Path,
    fuse: &Fuse,
    extent: Extent,
    rows: Range<u64>,
) -> Result<Loaded, Failure> {
    let cover = path.1.cover(&rows);
    let loads = fuse.steps.iter().map(|step| load_step(shared, inputs, norms, &path.0, step, extent, &rows, &cover));
    let steps = try_join_all(loads).await?;
    Ok(Loaded { path, rows, steps })
}

#[allow(clippy::too_many_arguments, reason = "one call site; a struct would only rename the list")]
async fn load_step(
    shared: &Shared,
    inputs: &Inputs,
    norms: &Norms,
    gpu: &Gpu,
    step: &Step,
    extent: Extent,
    rows: &Range<u64>,
    cover: &Range<u64>,
) -> Result<Ready, Failure> {
    let place = |name: &str| format!("adapter {}, {name}", step.adapter + 1);
    let delta = delta_of(step)?;
    let left = async {
        let left = factors::left(shared, inputs, delta, extent.rows, cover.clone()).await;
        left.map_err(|f| f.at(place(&delta.left.source.name)))
    };
    let right = async {
        let right = fetch(shared, inputs, gpu, delta, extent.cols).await;
        right.map_err(|f| f.at(place(&delta.right.source.name)))
    };
    let gain = async {
        let Op::Dora { magnitude, norm, .. } = &step.op else { return Ok(None) };
        let gain = match norm {
            Norm::Rows => steps::vector(shared, inputs, magnitude, rows.clone())
                .await
                .map(|magnitudes| Gain::Rows { magnitudes, of_original: cuda::of_original(&step.op) }),
            Norm::Measured(id) => norms.gains(shared, inputs, *id, magnitude, extent.cols).await.map(Gain::Columns),
        };
        gain.map(Some).map_err(|f| f.at(place(&magnitude.name)))
    };
    let (left, right, gain) = futures::try_join!(left, right, gain)?;
    Ok(Ready { zero: shared.kernels.all_zero(&left), left, gain, right })
}

fn delta_of(step: &Step) -> Result<&LowRank, Failure> {
    step.op.delta().ok_or_else(|| Failure::local("a step without a delta was sent to the device"))
}

/// Fuses the rows, whose weights are `raw`. Returns the part, or what went wrong.
#[allow(clippy::too_many_arguments, reason = "one call site; a struct would only rename the list")]
pub async fn fuse(
    shared: &Shared,
    inputs: &Inputs,
    placed: &Placed,
    fuse: &Fuse,
    loaded: Loaded,
    raw: Bytes,
    sink: Sink,
    seen: &mut Vec<(String, bool)>,
) -> Result<Vec<u8>, Wrong> {
    let Loaded { path: (gpu, tiling), rows, steps: ready } = loaded;
    let cols = tiling.cols();
    // From here to the hand-over only the device is waited for, by one part at a time.
    let bringing = gpu.bring().await;
    let mut steps = Vec::with_capacity(ready.len());
    for (step, Ready { left, zero, gain, right }) in fuse.steps.iter().zip(ready) {
        let delta = delta_of(step).map_err(Wrong::Failed)?;
        seen.push((delta.left.source.name.clone(), zero));
        let right = bring(shared, inputs, &gpu, delta, cols, right).await.map_err(Wrong::Failed)?;
        seen.push((delta.right.source.name.clone(), right.zero()));
        steps.push(cuda::Step { left, right, rank: delta.rank, scale: delta.scale, gain });
    }
    let program = Program { tiling, rows, from: fuse.start.dtype, to: placed.dtype, steps };
    let answer = gpu.submit(raw, program, sink);
    drop(bringing);
    gpu.answer(answer).await
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
    // A part's share of the budget holds such a factor.
    if !factors::is_whole(delta, cols, shared.loading.bytes()) {
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
    let mut whole = match factor {
        Factor::There(right) => return Ok(right),
        Factor::Here(values) => Some(values),
        Factor::Large => None,
    };
    if let Some(right) = gpu.right(&key) {
        // Another part brought it meanwhile.
        return Ok(right);
    }
    let mut buffer = room(shared, gpu, delta.rank * cols * 4).await?;
    let mut zero = true;
    let (lines, width) = stored(delta, cols);
    let step = if whole.is_some() { lines } else { (CHUNK / (4 * width)).clamp(1, lines) };
    for start in (0..lines).step_by(step as usize) {
        let values = match whole.take() {
            Some(values) => values,
            None => lines_of(shared, inputs, delta, cols, start..(start + step).min(lines)).await?,
        };
        let (gpu, kernels) = (Arc::clone(gpu), shared.kernels);
        let put = move |_: &Threads| {
            gpu.put(&buffer, start * width, &values)?;
            Ok((buffer, kernels.all_zero(&values)))
        };
        let (back, all_zero) = shared.compute(put).await?;
        buffer = back;
        zero &= all_zero;
    }
    Ok(gpu.keep(key, buffer, delta.right.transposed, zero))
}

/// Memory on the device for a factor. Allocating and freeing wait for the device, so a compute thread does both.
async fn room(shared: &Shared, gpu: &Arc<Gpu>, bytes: u64) -> Result<cuda::Buffer, Failure> {
    loop {
        // Taken before the look, so that no end of a job is missed in between.
        let ended = gpu.ended();
        let device = Arc::clone(gpu);
        match shared.compute(move |_| device.room(bytes)).await? {
            Some(buffer) => return Ok(buffer),
            None => ended.await,
        }
    }
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
    let (kernels, object, budget) = (shared.kernels, inputs.version(source.object)?, shared.budget.clone());
    shared
        .compute(move |_| {
            let values = factors::decode(&kernels, &source, &object, &raw);
            budget.give(raw);
            values
        })
        .await
}
