//! Computing the rows of a tensor that lie in a part, on whatever device there is.
//!
//! A [`Fuser`] is one path: on the host, or on a GPU. It tells what rows take in memory, loads what their steps read, and
//! turns what the rows start from into bytes of the part. Nothing outside this folder knows which path is taken.

use shardfuse_merge::base::scheme::claim::Whole;
use shardfuse_merge::recipe::Placed;

use super::part_plan::Rows;
use super::raw::Raw;
use super::read::Reader;
use super::shared::Shared;
use crate::Failure;
use crate::device::{Device, Slice};

mod blame;
mod context;
mod effect;
pub mod fallbacks;
mod gpu;
mod host;
mod recode;
mod seen;
mod steps;
mod tile;

pub use effect::by_adapter;
pub use seen::Seen;
pub use steps::{Extent, Steps, held};
pub use tile::at_once;

/// How rows of a tensor are computed.
#[derive(Debug)]
pub enum Fuser {
    /// On this machine's CPU.
    Host,
    /// On a GPU.
    Gpu(gpu::Path),
}

/// Everything that the steps need for the rows.
#[derive(Debug)]
pub enum Loaded {
    /// On the host.
    Host(Steps),
    /// On the host, with what is known of all rows, where one scale serves them.
    Encoded(Steps, Option<Whole>),
    /// For a GPU.
    Gpu(gpu::Loaded),
}

impl Fuser {
    /// The path for a tensor: a function of its recipe and the device only.
    pub fn of(shared: &Shared, placed: &Placed, rows: &Rows<'_>) -> Fuser {
        match &shared.device {
            Device::Cpu => Fuser::Host,
            // Encoding has no path there.
            Device::Cuda(_) if rows.requantise.is_some() => Fuser::Host,
            Device::Cuda(gpu) => gpu::path(gpu, &shared.fallbacks, placed, rows.fuse).map_or(Fuser::Host, Fuser::Gpu),
        }
    }

    /// Bytes of memory that the rows take beside what they start from and what they become.
    pub fn need(&self, shared: &Shared, rows: &Rows<'_>) -> u64 {
        let count = match self {
            Fuser::Host => rows.rows.end - rows.rows.start,
            Fuser::Gpu(path) => path.covered(&rows.rows),
        };
        let encoded = rows.requantise.map_or(0, |requantise| recode::need(requantise, &rows.rows, rows.cols));
        let decoded = at_once(&rows.fuse.start, &rows.rows).unwrap_or(0);
        let held = held(&rows.fuse.steps, count, rows.cols, shared.loading.bytes());
        [encoded, decoded, held].into_iter().fold(host::wide(shared, count, rows.cols), u64::saturating_add)
    }

    /// Loads what the steps need for the rows, all at the same time.
    pub async fn load(&self, reader: Reader<'_>, rows: &Rows<'_>) -> Result<Loaded, Failure> {
        match self {
            Fuser::Host => {
                let extent = Extent { rows: rows.rows.clone(), cols: rows.cols };
                let steps = Steps::load(reader, &rows.fuse.steps, extent);
                let Some(requantise) = rows.requantise else { return steps.await.map(Loaded::Host) };
                let whole = async {
                    match requantise.range {
                        Some(id) => reader.whole(id).await.map(Some),
                        None => Ok(None),
                    }
                };
                futures::try_join!(steps, whole).map(|(steps, whole)| Loaded::Encoded(steps, whole))
            }
            Fuser::Gpu(path) => gpu::load(reader, path, rows).await.map(Loaded::Gpu),
        }
    }
}

impl Loaded {
    /// Computes the rows, which start from `raw`, into the slice of the part. Returns the part, and what was seen of the
    /// factors and of what the steps did.
    pub async fn fuse(
        self,
        reader: Reader<'_>,
        placed: &Placed,
        rows: &Rows<'_>,
        raw: Raw,
        slice: Slice,
    ) -> Result<(Vec<u8>, Seen), Failure> {
        let (device, bytes) = (self.device(), raw.bytes());
        metrics::counter!("shardfuse_fused_bytes_total", "device" => device).increment(bytes);
        let fused = match self {
            Loaded::Host(steps) => host::fuse(reader, placed, rows, steps, raw, slice).await?,
            Loaded::Encoded(steps, whole) => host::encode(reader, placed, rows, (steps, whole), raw, slice).await?,
            Loaded::Gpu(loaded) => gpu::fuse(reader, placed, rows, loaded, raw, slice).await?,
        };
        reader.inputs.meter().fused(bytes);
        Ok(fused)
    }

    /// The device as metrics name it.
    fn device(&self) -> &'static str {
        match self {
            Loaded::Host(_) | Loaded::Encoded(..) => "cpu",
            Loaded::Gpu(_) => "cuda",
        }
    }
}
