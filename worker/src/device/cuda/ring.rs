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
//! lent again only after the host has seen the last event, the end of storing, so nothing in it is overwritten early. The fp32
//! weights and the delta are used by the compute stream alone, in order: there is one of each.
//!
//! The number of slots follows from the device's free memory and the host's budget and is otherwise without effect: tiles
//! have the same shape with one slot as with four.
//!
//! Each stage is timed on the device, between two events of its own stream: what a tile waits for is not in it.

use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaStream};
use shardfuse_merge::DtypeExt;
use shardfuse_merge::recipe::op::norm::LANES;

use super::blas::Blas;
use super::card::Card;
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
    load: Stage,
    fuse: Stage,
    store: Stage,
}

/// One stage of a tile: where it begins and ends on its stream.
#[derive(Debug)]
struct Stage {
    began: CudaEvent,
    ended: CudaEvent,
}

impl Stage {
    fn new(card: &Card) -> Result<Self, Trouble> {
        let timed = || card.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        Ok(Stage { began: timed()?, ended: timed()? })
    }

    fn took(&self) -> Result<Duration, Trouble> {
        Ok(Duration::from_secs_f32(self.began.elapsed_ms(&self.ended)?.max(0.0) / 1e3))
    }
}

/// How long each stage of a tile took on the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took {
    /// To the device.
    pub load: Duration,
    /// The arithmetic.
    pub fuse: Duration,
    /// Back.
    pub store: Duration,
}

impl Slot {
    fn new(card: &Arc<Card>) -> Result<Self, Trouble> {
        let status = STATUS * size_of::<u64>();
        // The host sleeps until the last event, and does not spin.
        let done = card.context().new_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC))?;
        Ok(Slot {
            raw_there: Buffer::new(card, WIDEST)?,
            side_there: Buffer::new(card, SIDE as usize * 4)?,
            out_there: Buffer::new(card, WIDEST)?,
            status_there: Buffer::new(card, status)?,
            raw: Pinned::new(card, WIDEST)?,
            side: Pinned::new(card, SIDE as usize)?,
            out: Pinned::new(card, WIDEST)?,
            status: Pinned::new(card, STATUS)?,
            load: Stage::new(card)?,
            fuse: Stage::new(card)?,
            store: Stage { ended: done, ..Stage::new(card)? },
        })
    }

    /// Waits until all of the tile's work is done.
    pub(super) fn done(&self) -> Result<Took, Trouble> {
        self.store.ended.synchronize()?;
        Ok(Took { load: self.load.took()?, fuse: self.fuse.took()?, store: self.store.took()? })
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
    pub(super) fn new(card: &Arc<Card>) -> Result<Self, Trouble> {
        let compute = card.context().new_stream()?;
        Ok(Ring {
            copy_in: card.context().new_stream()?,
            copy_out: card.context().new_stream()?,
            kernels: Kernels::load(&compute)?,
            blas: Blas::new(card, &compute)?,
            w: Buffer::new(card, WIDEST)?,
            delta: Buffer::new(card, WIDEST)?,
            lanes: Buffer::new(card, TALLEST as usize * LANES * size_of::<f64>())?,
            gains: Buffer::new(card, TALLEST as usize * size_of::<f32>())?,
            compute,
        })
    }

    /// As many slots as the device has room for and `host` bytes hold; one at least.
    pub(super) fn slots(card: &Arc<Card>, host: u64) -> Result<Vec<Slot>, Trouble> {
        let (free, _) = card.context().mem_get_info()?;
        // A quarter of what is free: the rest is for factors, and for the kernels that cuBLAS loads when it needs them.
        let count = (free as u64 / 4).min(host) / SLOT_BYTES;
        let mut slots = Vec::new();
        for _ in 0..count.clamp(1, MOST_SLOTS) {
            match Slot::new(card) {
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

        slot.load.began.record(&self.copy_in)?;
        slot.raw_there.load(&slot.raw, 0..raw_bytes, &self.copy_in)?;
        slot.side_there.load(&slot.side, 0..program.tiling.end(), &self.copy_in)?;
        slot.status_there.fill(0xFF, words * size_of::<u64>(), &self.copy_in)?;
        slot.load.ended.record(&self.copy_in)?;

        self.compute.wait(&slot.load.ended)?;
        slot.fuse.began.record(&self.compute)?;
        self.fuse(slot, program, tile, extent, (raw_bytes, out_bytes))?;
        slot.fuse.ended.record(&self.compute)?;

        self.copy_out.wait(&slot.fuse.ended)?;
        slot.store.began.record(&self.copy_out)?;
        slot.out_there.store(&mut slot.out, out_bytes, &self.copy_out)?;
        slot.status_there.store(&mut slot.status, words, &self.copy_out)?;
        slot.store.ended.record(&self.copy_out)?;
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
        let (kernels, cols) = (&self.kernels, program.tiling.cols() as usize);
        let whole = (tile.whole.end - tile.whole.start) as usize;
        let (n, rows) = (extent.rows as usize * cols, extent.rows as usize);
        let w = self.w.at(0, n * 4);
        let all = self.delta.at(0, whole * cols * 4);
        // The wanted rows of the product.
        let delta = self.delta.at((tile.mine.start - tile.whole.start) as usize * cols * 4, n * 4);
        let lanes = self.lanes.at(0, rows * LANES * size_of::<f64>());
        let raw = Encoded { at: slot.raw_there.at(0, raw_bytes), dtype: program.from };
        let word = |i: usize| slot.status_there.at(i * size_of::<u64>(), size_of::<u64>());

        kernels.decode(raw, w, extent)?;
        for (i, step) in program.steps.iter().enumerate() {
            let (left_at, gains_at) = program.tiling.side(i);
            let rank = step.rank as usize;
            let left = slot.side_there.at(left_at * 4, whole * rank * 4);
            // SAFETY: the three matrices have these shapes (`at` checks the lengths of two, the upload that of the right
            // factor, which the program keeps alive); only the compute stream writes to the delta, in order.
            unsafe { self.blas.product(all, left, step.right.matrix(), (whole, rank, cols)) }?;
            if let Some(Gain::Rows { of_original: true, .. }) = &step.gain {
                kernels.lanes_of_original(raw, (delta, step.scale), lanes, extent)?;
            }
            kernels.add(w, delta, step.scale, extent)?;
            match &step.gain {
                None => {}
                Some(Gain::Columns(_)) => {
                    kernels.scale_columns(w, slot.side_there.at(gains_at * 4, cols * 4), extent)?;
                }
                Some(Gain::Rows { of_original, .. }) => {
                    if !of_original {
                        kernels.lanes_of_standing(w, lanes, extent)?;
                    }
                    let magnitudes = slot.side_there.at(gains_at * 4, rows * 4);
                    let gains = self.gains.at(0, rows * 4);
                    kernels.row_gains(lanes, magnitudes, gains, extent.rows, word(1 + i))?;
                    kernels.scale_rows(w, gains, extent)?;
                }
            }
        }
        let out = Encoded { at: slot.out_there.at(0, out_bytes), dtype: program.to };
        kernels.encode(w, out, extent, word(0))?;
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
