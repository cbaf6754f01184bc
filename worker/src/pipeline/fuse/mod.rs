//! Computing the rows of a tensor that lie in a part, on whatever device there is.
//!
//! A [`Fuser`] is one path: on the host, or on a GPU. It tells what rows take in memory, loads what their steps read, and
//! turns what the rows start from into bytes of the part. Nothing outside this folder knows which path is taken.

use shardfuse_merge::recipe::Placed;

use super::part_plan::Rows;
use super::raw::Raw;
use super::read::Reader;
use super::shared::Shared;
use crate::Failure;
use crate::device::{Device, Slice};

mod blame;
pub mod fallbacks;
mod gpu;
mod host;
mod steps;
mod tile;

pub use steps::{Extent, Seen, Steps, held};

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
    /// For a GPU.
    Gpu(gpu::Loaded),
}

impl Fuser {
    /// The path for a tensor: a function of its recipe and the device only.
    pub fn of(shared: &Shared, placed: &Placed, rows: &Rows<'_>) -> Fuser {
        match &shared.device {
            Device::Cpu => Fuser::Host,
            Device::Cuda(gpu) => gpu::path(gpu, &shared.fallbacks, placed, rows.fuse).map_or(Fuser::Host, Fuser::Gpu),
        }
    }

    /// Bytes of memory that the rows take beside what they start from and what they become.
    pub fn need(&self, shared: &Shared, rows: &Rows<'_>) -> u64 {
        let count = match self {
            Fuser::Host => rows.rows.end - rows.rows.start,
            Fuser::Gpu(path) => path.covered(&rows.rows),
        };
        host::wide(shared, count, rows.cols).saturating_add(held(
            &rows.fuse.steps,
            count,
            rows.cols,
            shared.loading.bytes(),
        ))
    }

    /// Loads what the steps need for the rows, all at the same time.
    pub async fn load(&self, reader: Reader<'_>, rows: &Rows<'_>) -> Result<Loaded, Failure> {
        match self {
            Fuser::Host => {
                let extent = Extent { rows: rows.rows.clone(), cols: rows.cols };
                Steps::load(reader, &rows.fuse.steps, extent).await.map(Loaded::Host)
            }
            Fuser::Gpu(path) => gpu::load(reader, path, rows).await.map(Loaded::Gpu),
        }
    }
}

impl Loaded {
    /// Computes the rows, which start from `raw`, into the slice of the part. Returns the part, and what was seen of the
    /// factors.
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
            Loaded::Gpu(loaded) => gpu::fuse(reader, placed, rows, loaded, raw, slice).await?,
        };
        reader.inputs.meter().fused(bytes);
        Ok(fused)
    }

    /// The device as metrics name it.
    fn device(&self) -> &'static str {
        match self {
            Loaded::Host(_) => "cpu",
            Loaded::Gpu(_) => "cuda",
        }
    }
}
