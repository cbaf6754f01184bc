//! The path on a GPU: what the device needs is read, brought there, and the answer awaited.

use std::ops::Range;
use std::sync::Arc;

use futures::future::try_join_all;
use shardfuse_merge::DtypeExt;
use shardfuse_merge::recipe::op::NoNorm;
use shardfuse_merge::recipe::{Fuse, LowRank, Norm, Op, Operand, Placed, Step};
use shardfuse_merge::tensor::{Order, View, matrix};

use super::blame::Blame;
use super::effect::{Watch, converted_differ};
use super::fallbacks::Fallbacks;
use super::seen::Seen;
use crate::Failure;
use crate::device::Slice;
use crate::device::cuda::{self, Gain, Gpu, Key, Program, Tiling, Way, Wrong};
use crate::pipeline::part_plan::Rows;
use crate::pipeline::raw::Raw;
use crate::pipeline::read::Reader;
use crate::pipeline::threads::Threads;

/// Bytes of fp32 that are read, checked and uploaded at a time of a factor that is too large to be held on the host.
const CHUNK: u64 = 16 << 20;

/// A GPU, and how it tiles a tensor.
#[derive(Debug, Clone)]
pub struct Path {
    gpu: Arc<Gpu>,
    tiling: Tiling,
}

impl Path {
    /// Rows of the left factor that it takes: those of whole tiles.
    pub fn covered(&self, rows: &Range<u64>) -> u64 {
        let cover = self.tiling.cover(rows);
        cover.end - cover.start
    }
}

/// How a GPU fuses a tensor; `None` where the host does.
pub fn path(gpu: &Arc<Gpu>, fallbacks: &Fallbacks, placed: &Placed, fuse: &Fuse) -> Option<Path> {
    let (rows, cols) = matrix(&placed.shape);
    match Way::of(fuse, placed.dtype, rows, cols) {
        Way::Device(tiling) => Some(Path { gpu: Arc::clone(gpu), tiling }),
        Way::Host => None,
        Way::NoPath(why) => {
            fallbacks.log(&placed.name, &why);
            None
        }
    }
}

/// What a GPU needs for rows of a tensor, on the host.
#[derive(Debug)]
pub struct Loaded {
    path: Path,
    steps: Vec<LoadedStep>,
}

/// A step's share of it.
#[derive(Debug)]
struct LoadedStep {
    left: Vec<f32>,
    zero: bool,
    gain: Option<Gain>,
    right: Factor,
}

/// A right factor on its way to the device.
#[derive(Debug)]
enum Factor {
    /// It is there.
    There(Arc<cuda::Right>),
    /// It is on the host, in the order in which it is stored.
    Here(Vec<f32>),
    /// It is too large to be held on the host.
    Large,
}

/// Loads what the steps need for the rows, all at the same time.
pub async fn load(reader: Reader<'_>, path: &Path, rows: &Rows<'_>) -> Result<Loaded, Failure> {
    let loader = Loader { reader, gpu: &path.gpu, cover: path.tiling.cover(&rows.rows), rows: &rows.rows };
    let steps = try_join_all(rows.fuse.steps.iter().map(|step| loader.step(step))).await?;
    Ok(Loaded { path: path.clone(), steps })
}

struct Loader<'a> {
    reader: Reader<'a>,
    gpu: &'a Gpu,
    rows: &'a Range<u64>,
    /// The rows of whole tiles.
    cover: Range<u64>,
}

impl Loader<'_> {
    async fn step(&self, step: &Step) -> Result<LoadedStep, Failure> {
        let reader = self.reader;
        let place = |name: &str| format!("adapter {}, {name}", step.adapter + 1);
        let delta = delta_of(step)?;
        let left = async {
            let left = reader.rows(&delta.left, self.cover.clone()).await;
            left.map_err(|f| f.at(place(&delta.left.source.name)))
        };
        let right = async {
            let right = fetch(reader, self.gpu, delta).await;
            right.map_err(|f| f.at(place(&delta.right.source.name)))
        };
        let gain = async {
            let Op::Dora(dora) = &step.op else { return Ok(None) };
            let gain = match dora.norm {
                Norm::Rows => reader
                    .rows(&dora.magnitude, self.rows.clone())
                    .await
                    .map(|magnitudes| Gain::Rows { magnitudes, of_original: step.op.wants_original() }),
                Norm::Columns(id) => reader.derive(id, &dora.magnitude).await.map(Gain::Columns),
            };
            gain.map(Some).map_err(|f| f.at(place(&dora.magnitude.source.name)))
        };
        let (left, right, gain) = futures::try_join!(left, right, gain)?;
        Ok(LoadedStep { zero: reader.shared.kernels.all_zero(&left), left, gain, right })
    }
}

fn delta_of(step: &Step) -> Result<&LowRank, Failure> {
    cuda::product(&step.op)
        .ok_or_else(|| Failure::local("a step without a plain low-rank delta was sent to the device"))
}

/// Computes rows, which start from `raw`, into a slice of the part. Returns the part.
pub async fn fuse(
    reader: Reader<'_>,
    placed: &Placed,
    rows: &Rows<'_>,
    loaded: Loaded,
    raw: Raw,
    slice: Slice,
) -> Result<(Vec<u8>, Seen), Failure> {
    let Loaded { path: Path { gpu, tiling }, steps: loaded } = loaded;
    let (mut factors, mut idle) = (Vec::new(), Vec::new());
    // From here to the hand-over only the device is waited for, by one part at a time.
    let bringing = gpu.bring().await;
    let mut steps = Vec::with_capacity(loaded.len());
    for (step, LoadedStep { left, zero, gain, right }) in rows.fuse.steps.iter().zip(loaded) {
        let delta = delta_of(step)?;
        factors.push((delta.left.source.name.clone(), zero));
        let right = bring(reader, &gpu, delta, right).await?;
        factors.push((delta.right.source.name.clone(), right.zero()));
        idle.push(gain.is_none() && (zero || right.zero()));
        steps.push(cuda::Step { left, right, rank: delta.rank(), scale: delta.scale, gain });
    }
    let (raw, from) =
        raw.plain().ok_or_else(|| Failure::local("rows that are not stored as values were sent to the device"))?;
    let to = placed.dtype;
    let (before, target, skip) = (raw.clone(), slice.target.clone(), slice.skip);
    let answer = gpu.submit(raw, Program { tiling, rows: rows.rows.clone(), from, to, steps }, slice);
    drop(bringing);
    let part = gpu.answer(answer).await.map_err(|wrong| failure(placed, rows.fuse, wrong))?;
    // The device tells nothing of single steps.
    let watch = Watch::new(&rows.fuse.steps, &idle, Some(to));
    let kernels = reader.shared.kernels;
    let look = move |_: &Threads| {
        if watch.waits_for_any() {
            watch.all_moved(converted_differ(&kernels, (&before, from), (&part[target], to), skip));
        }
        Ok((part, watch.effects()))
    };
    let (part, effects) = reader.shared.compute(look).await?;
    Ok((part, Seen { factors, effects }))
}

/// What the device found, as a failure of the tensor.
fn failure(placed: &Placed, fuse: &Fuse, wrong: Wrong) -> Failure {
    let blame = Blame::new(placed, fuse);
    match wrong {
        Wrong::NonFinite { row, col, value } => blame.bad_value(row, col, value),
        Wrong::Norm { step, row, norm } => {
            let inputs = fuse.steps[step].op.own_inputs();
            let tensor = inputs.first().map_or(String::new(), |input| input.operand.source.name.clone());
            blame.name(NoNorm { tensor, output: row, norm: f64::from(norm) }.into())
        }
        Wrong::Failed(failure) => failure,
    }
}

fn key(reader: Reader<'_>, delta: &LowRank) -> Result<Key, Failure> {
    let source = &delta.right.source;
    let (url, pin) = reader.inputs.identity(source.object)?;
    Ok((url, pin, source.offset + delta.right.view.offset * source.dtype.bytes().unwrap_or(0)))
}

/// Reads a right factor unless the device has it.
async fn fetch(reader: Reader<'_>, gpu: &Gpu, delta: &LowRank) -> Result<Factor, Failure> {
    if let Some(right) = gpu.right(&key(reader, delta)?) {
        return Ok(Factor::There(right));
    }
    // A part's share of the budget holds such a factor.
    if 4 * delta.right.view.elements() > reader.shared.loading.bytes() {
        return Ok(Factor::Large);
    }
    let view = stored(delta);
    Ok(Factor::Here(lines_of(reader, delta, 0..view.rows).await?))
}

/// Puts a right factor on the device unless it is there.
async fn bring(
    reader: Reader<'_>,
    gpu: &Arc<Gpu>,
    delta: &LowRank,
    factor: Factor,
) -> Result<Arc<cuda::Right>, Failure> {
    let key = key(reader, delta)?;
    let mut whole = match factor {
        Factor::There(right) => return Ok(right),
        Factor::Here(values) => Some(values),
        Factor::Large => None,
    };
    if let Some(right) = gpu.right(&key) {
        // Another part brought it meanwhile.
        return Ok(right);
    }
    let mut buffer = room(reader, gpu, delta.right.view.elements() * 4).await?;
    let mut zero = true;
    let View { rows: lines, cols: width, .. } = stored(delta);
    let step = if whole.is_some() { lines } else { (CHUNK / (4 * width)).clamp(1, lines) };
    for start in (0..lines).step_by(step as usize) {
        let values = match whole.take() {
            Some(values) => values,
            None => lines_of(reader, delta, start..(start + step).min(lines)).await?,
        };
        let (gpu, kernels) = (Arc::clone(gpu), reader.shared.kernels);
        let put = move |_: &Threads| {
            gpu.put(&buffer, start * width, &values)?;
            Ok((buffer, kernels.all_zero(&values)))
        };
        let (back, all_zero) = reader.shared.compute(put).await?;
        buffer = back;
        zero &= all_zero;
    }
    Ok(gpu.keep(key, buffer, is_transposed(delta), zero))
}

/// Memory on the device for a factor. Allocating and freeing wait for the device, so a compute thread does both.
async fn room(reader: Reader<'_>, gpu: &Arc<Gpu>, bytes: u64) -> Result<cuda::Buffer, Failure> {
    loop {
        // Taken before the look, so that no end of a job is missed in between.
        let ended = gpu.ended();
        let device = Arc::clone(gpu);
        match reader.shared.compute(move |_| device.room(bytes)).await? {
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
async fn lines_of(reader: Reader<'_>, delta: &LowRank, lines: Range<u64>) -> Result<Vec<f32>, Failure> {
    let as_stored = Operand { view: stored(delta), ..delta.right.clone() };
    reader.rows(&as_stored, lines).await
}
