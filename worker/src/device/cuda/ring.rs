//! The ring: a few tiles under way at a time, over three streams.
//!
//! ```text
//! copy-in    | load 1 | load 2 | load 3 | ...
//! compute             | fuse 1 | fuse 2 | fuse 3 | ...
//! copy-out                     | store 1| store 2| ...
//! ```
//!
//! A slot holds what one tile needs in each direction. On a stream things happen in order; between them there are two
//! dependencies a tile, said with two events: computing waits for the load, storing waits for the computing. A slot is
//! lent again only after the host has seen its third event, `stored`, so nothing in it is overwritten early. The fp32
//! weights and the delta are used by the compute stream alone, in order: there is one of each.
//!
//! The number of slots follows from the device's free memory and is otherwise without effect: tiles have the same shape
//! with one slot as with four.

use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream};
use shardfuse_merge::DtypeExt;
use shardfuse_merge::fuse::norm::LANES;

use super::blas::Blas;
use super::job::{Gain, Program};
use super::kernels::{Encoded, Extent, Kernels};
use super::memory::{Buffer, Pinned};
use super::tiling::{MOST_STEPS, SIDE, TALLEST, TILE, Tile};
use super::trouble::Trouble;

/// Slots where there is room: one in each stage, and one that the host fills or empties.
const MOST_SLOTS: u64 = 4;
const WIDEST: usize = TILE as usize * 4;
const STATUS: usize = MOST_STEPS + 1;
/// Bytes of a slot, on the device and as many page-locked on the host.
pub(super) const SLOT_BYTES: u64 = 2 * TILE * 4 + SIDE * 4 + STATUS as u64 * 8;

/// What one tile needs.
#[derive(Debug)]
pub(super) struct Slot {
    /// Weights as they come in.
    pub raw: Pinned<u8>,
    /// What lies beside them; the tiling says where.
    pub side: Pinned<f32>,
    /// Weights as they go out.
    pub out: Pinned<u8>,
    /// Word 0: the first value that is not finite. Word 1 + i: the first row of step i without a norm. All ones: none.
    pub status: Pinned<u64>,
    raw_there: Buffer,
    side_there: Buffer,
    out_there: Buffer,
    status_there: Buffer,
    loaded: CudaEvent,
    fused: CudaEvent,
    /// All of the tile's work is done.
    pub stored: CudaEvent,
}

impl Slot {
    fn new(context: &Arc<CudaContext>) -> Result<Self, Trouble> {
        let status = STATUS * size_of::<u64>();
        Ok(Slot {
            raw_there: Buffer::new(context, WIDEST)?,
            side_there: Buffer::new(context, SIDE as usize * 4)?,
            out_there: Buffer::new(context, WIDEST)?,
            status_there: Buffer::new(context, status)?,
            raw: Pinned::new(context, WIDEST)?,
            side: Pinned::new(context, SIDE as usize)?,
            out: Pinned::new(context, WIDEST)?,
            status: Pinned::new(context, STATUS)?,
            loaded: context.new_event(None)?,
            fused: context.new_event(None)?,
            // The host sleeps until this one, and does not spin.
            stored: context.new_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC))?,
        })
    }
}

/// The streams and what the compute stream works in.
#[derive(Debug)]
pub(super) struct Ring {
    copy_in: Arc<CudaStream>,
    compute: Arc<CudaStream>,
    copy_out: Arc<CudaStream>,
    blas: Blas,
    kernels: Kernels,
    w: Buffer,
    delta: Buffer,
    lanes: Buffer,
    gains: Buffer,
}

impl Ring {
    /// Streams, kernels, cuBLAS and the compute stream's memory.
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Self, Trouble> {
        let compute = context.new_stream()?;
        Ok(Ring {
            copy_in: context.new_stream()?,
            copy_out: context.new_stream()?,
            kernels: Kernels::load(context)?,
            blas: Blas::new(&compute)?,
            w: Buffer::new(context, WIDEST)?,
            delta: Buffer::new(context, WIDEST)?,
            lanes: Buffer::new(context, TALLEST as usize * LANES * size_of::<f64>())?,
            gains: Buffer::new(context, TALLEST as usize * size_of::<f32>())?,
            compute,
        })
    }

    /// As many slots as the device has room for; one at least.
    pub(super) fn slots(&self, context: &Arc<CudaContext>) -> Result<Vec<Slot>, Trouble> {
        let (free, _) = context.mem_get_info()?;
        // A quarter of what is free: the rest is for factors, and for the kernels that cuBLAS loads when it needs them.
        let count = (free as u64 / 4 / SLOT_BYTES).clamp(1, MOST_SLOTS);
        let mut slots = Vec::new();
        for _ in 0..count {
            match Slot::new(context) {
                Ok(slot) => slots.push(slot),
                Err(Trouble::Full) if !slots.is_empty() => break,
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(slots)
    }

    /// cuBLAS's version.
    pub(super) fn blas_version(&self) -> Result<u32, Trouble> {
        Ok(self.blas.version()?)
    }

    /// Queues a tile whose `raw` and `side` the host has filled. Returns at once.
    pub(super) fn queue(&self, slot: &mut Slot, program: &Program, tile: &Tile) -> Result<(), Trouble> {
        let cols = program.tiling.cols();
        let extent = Extent { rows: tile.mine.end - tile.mine.start, cols };
        let n = (extent.rows * cols) as usize;
        let raw_bytes = n * program.from.bytes().unwrap_or(0) as usize;
        let out_bytes = n * program.to.bytes().unwrap_or(0) as usize;
        let words = 1 + program.steps.len();

        slot.raw_there.load(&slot.raw, 0..raw_bytes, &self.copy_in)?;
        slot.side_there.load(&slot.side, 0..program.tiling.end(), &self.copy_in)?;
        slot.status_there.fill(0xFF, words * size_of::<u64>(), &self.copy_in)?;
        slot.loaded.record(&self.copy_in)?;

        self.compute.wait(&slot.loaded)?;
        self.fuse(slot, program, tile, extent, (raw_bytes, out_bytes))?;
        slot.fused.record(&self.compute)?;

        self.copy_out.wait(&slot.fused)?;
        slot.out_there.store(&mut slot.out, out_bytes, &self.copy_out)?;
        slot.status_there.store(&mut slot.status, words, &self.copy_out)?;
        slot.stored.record(&self.copy_out)?;
        Ok(())
    }

    /// Queues the arithmetic of a tile on the compute stream.
    fn fuse(
        &self,
        slot: &Slot,
        program: &Program,
        tile: &Tile,
        extent: Extent,
        (raw_bytes, out_bytes): (usize, usize),
    ) -> Result<(), Trouble> {
        let (stream, kernels, cols) = (&*self.compute, &self.kernels, program.tiling.cols() as usize);
        let whole = (tile.whole.end - tile.whole.start) as usize;
        let (n, rows) = (extent.rows as usize * cols, extent.rows as usize);
        let w = self.w.at(0, n * 4);
        let all = self.delta.at(0, whole * cols * 4);
        // The wanted rows of the product.
        let delta = self.delta.at((tile.mine.start - tile.whole.start) as usize * cols * 4, n * 4);
        let lanes = self.lanes.at(0, rows * LANES * size_of::<f64>());
        let raw = Encoded { at: slot.raw_there.at(0, raw_bytes), dtype: program.from };
        let word = |i: usize| slot.status_there.at(i * size_of::<u64>(), size_of::<u64>());

        kernels.decode(stream, raw, w, extent)?;
        for (i, step) in program.steps.iter().enumerate() {
            let (left_at, gains_at) = program.tiling.side(i);
            let rank = step.rank as usize;
            let left = slot.side_there.at(left_at * 4, whole * rank * 4);
            // SAFETY: the three matrices have these shapes (`at` checks the lengths of two, the upload that of the right
            // factor, which the program keeps alive); only the compute stream writes to the delta, in order.
            unsafe { self.blas.product(all, left, step.right.matrix(), (whole, rank, cols)) }?;
            if let Some(Gain::Rows { of_original: true, .. }) = &step.gain {
                kernels.lanes_of_original(stream, raw, (delta, step.scale), lanes, extent)?;
            }
            kernels.add(stream, w, delta, step.scale, extent)?;
            match &step.gain {
                None => {}
                Some(Gain::Columns(_)) => {
                    kernels.scale_columns(stream, w, slot.side_there.at(gains_at * 4, cols * 4), extent)?;
                }
                Some(Gain::Rows { of_original, .. }) => {
                    if !of_original {
                        kernels.lanes_of_standing(stream, w, lanes, extent)?;
                    }
                    let magnitudes = slot.side_there.at(gains_at * 4, rows * 4);
                    let gains = self.gains.at(0, rows * 4);
                    kernels.row_gains(stream, lanes, magnitudes, gains, extent.rows, word(1 + i))?;
                    kernels.scale_rows(stream, w, gains, extent)?;
                }
            }
        }
        let out = Encoded { at: slot.out_there.at(0, out_bytes), dtype: program.to };
        kernels.encode(stream, w, out, extent, word(0))?;
        Ok(())
    }

    /// Waits until nothing is under way.
    pub(super) fn settle(&self) -> Result<(), Trouble> {
        for stream in [&self.copy_in, &self.compute, &self.copy_out] {
            stream.synchronize()?;
        }
        Ok(())
    }
}
