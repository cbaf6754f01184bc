//! A part's rows of one tensor, fused on a GPU: what the device needs is read, brought there, and the answer awaited.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::try_join_all;
use shardfuse_merge::DtypeExt;
use shardfuse_merge::recipe::{Fuse, LowRank, Norm, Op, Operand, Placed, Step};
use shardfuse_merge::tensor::{Order, View, matrix};
use tracing::info;

use super::inputs::Inputs;
use super::statistics::Statistics;
use super::threads::Threads;
use super::{Shared, operands};
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
    statistics: &Statistics,
    path: Path,
    fuse: &Fuse,
    rows: Range<u64>,
) -> Result<Loaded, Failure> {
    let loader = Loader { shared, inputs, statistics, gpu: &path.0, cover: path.1.cover(&rows), rows: &rows };
    let steps = try_join_all(fuse.steps.iter().map(|step| loader.step(step))).await?;
    Ok(Loaded { path, rows, steps })
}

struct Loader<'a> {
    shared: &'a Shared,
    inputs: &'a Inputs,
    statistics: &'a Statistics,
    gpu: &'a Gpu,
    rows: &'a Range<u64>,
    /// The rows of whole tiles.
    cover: Range<u64>,
}

impl Loader<'_> {
    async fn step(&self, step: &Step) -> Result<Ready, Failure> {
        let (shared, inputs) = (self.shared, self.inputs);
        let place = |name: &str| format!("adapter {}, {name}", step.adapter + 1);
        let delta = delta_of(step)?;
        let left = async {
            let left = operands::rows(shared, inputs, &delta.left, self.cover.clone()).await;
            left.map_err(|f| f.at(place(&delta.left.source.name)))
        };
        let right = async {
            let right = fetch(shared, inputs, self.gpu, delta).await;
            right.map_err(|f| f.at(place(&delta.right.source.name)))
        };
        let gain = async {
            let Op::Dora(dora) = &step.op else { return Ok(None) };
            let gain = match dora.norm {
                Norm::Rows => operands::rows(shared, inputs, &dora.magnitude, self.rows.clone())
                    .await
                    .map(|magnitudes| Gain::Rows { magnitudes, of_original: step.op.wants_original() }),
                Norm::Columns(id) => {
                    self.statistics.derive(shared, inputs, id, &dora.magnitude).await.map(Gain::Columns)
                }
            };
            gain.map(Some).map_err(|f| f.at(place(&dora.magnitude.source.name)))
        };
        let (left, right, gain) = futures::try_join!(left, right, gain)?;
        Ok(Ready { zero: shared.kernels.all_zero(&left), left, gain, right })
    }
}

fn delta_of(step: &Step) -> Result<&LowRank, Failure> {
    cuda::product(&step.op)
        .ok_or_else(|| Failure::local("a step without a plain low-rank delta was sent to the device"))
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
    // From here to the hand-over only the device is waited for, by one part at a time.
    let bringing = gpu.bring().await;
    let mut steps = Vec::with_capacity(ready.len());
    for (step, Ready { left, zero, gain, right }) in fuse.steps.iter().zip(ready) {
        let delta = delta_of(step).map_err(Wrong::Failed)?;
        seen.push((delta.left.source.name.clone(), zero));
        let right = bring(shared, inputs, &gpu, delta, right).await.map_err(Wrong::Failed)?;
        seen.push((delta.right.source.name.clone(), right.zero()));
        steps.push(cuda::Step { left, right, rank: delta.rank(), scale: delta.scale, gain });
    }
    let program = Program { tiling, rows, from: fuse.start.dtype, to: placed.dtype, steps };
    let answer = gpu.submit(raw, program, sink);
    drop(bringing);
    gpu.answer(answer).await
}

fn key(inputs: &Inputs, delta: &LowRank) -> Result<Key, Failure> {
    let source = &delta.right.source;
    let (url, pin) = inputs.identity(source.object)?;
    Ok((url, pin, source.offset + delta.right.view.offset * source.dtype.bytes().unwrap_or(0)))
}

/// Reads a right factor unless the device has it.
async fn fetch(shared: &Shared, inputs: &Inputs, gpu: &Gpu, delta: &LowRank) -> Result<Factor, Failure> {
    if let Some(right) = gpu.right(&key(inputs, delta)?) {
        return Ok(Factor::There(right));
    }
    // A part's share of the budget holds such a factor.
    if 4 * delta.right.view.elements() > shared.loading.bytes() {
        return Ok(Factor::Large);
    }
    let view = stored(delta);
    Ok(Factor::Here(lines_of(shared, inputs, delta, 0..view.rows).await?))
}

/// Puts a right factor on the device unless it is there.
async fn bring(
    shared: &Shared,
    inputs: &Inputs,
    gpu: &Arc<Gpu>,
    delta: &LowRank,
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
    let mut buffer = room(shared, gpu, delta.right.view.elements() * 4).await?;
    let mut zero = true;
    let View { rows: lines, cols: width, .. } = stored(delta);
    let step = if whole.is_some() { lines } else { (CHUNK / (4 * width)).clamp(1, lines) };
    for start in (0..lines).step_by(step as usize) {
        let values = match whole.take() {
            Some(values) => values,
            None => lines_of(shared, inputs, delta, start..(start + step).min(lines)).await?,
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
    Ok(gpu.keep(key, buffer, is_transposed(delta), zero))
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

/// A right factor as it is stored: rows are its lines.
fn stored(delta: &LowRank) -> View {
    if is_transposed(delta) { delta.right.view.transposed() } else { delta.right.view }
}

fn is_transposed(delta: &LowRank) -> bool {
    delta.right.view.order() == Some(Order::ColumnMajor)
}

/// Lines of a right factor as it is stored, in fp32.
async fn lines_of(shared: &Shared, inputs: &Inputs, delta: &LowRank, lines: Range<u64>) -> Result<Vec<f32>, Failure> {
    let as_stored = Operand { view: stored(delta), ..delta.right.clone() };
    operands::rows(shared, inputs, &as_stored, lines).await
}
