//! The two threads of a device: one fills slots and queues their work, the other waits for it and empties them.
//!
//! So no task and no compute thread ever waits for the device; a part waits in a channel, and reading, hashing and
//! uploading of other parts go on.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc as sync;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shardfuse_merge::DtypeExt;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::card::Card;
use super::job::{Done, Gain, Program, Wrong};
use super::ring::{Ring, Slot, Took};
use super::tiling::Tile;
use super::trouble::Trouble;
use crate::Failure;
use crate::device::Slice;

/// A job on its way to the device.
#[derive(Debug)]
pub(super) struct Order {
    /// The weights of the wanted rows.
    pub raw: Bytes,
    /// What is done to them.
    pub program: Program,
    /// Where the result goes.
    pub slice: Slice,
    /// Who waits for it.
    pub reply: oneshot::Sender<Done>,
}

/// What both threads and the handle look at.
#[derive(Debug)]
pub(super) struct State {
    /// For messages.
    pub label: String,
    /// For metrics: the number.
    pub number: u32,
    /// Why the device is not used any more.
    pub lost: watch::Sender<Option<Arc<str>>>,
    /// Jobs that were handed over and are not answered.
    pub running: AtomicUsize,
    /// A job was answered.
    pub ended: Notify,
    /// What the stages of all tiles took, in nanoseconds.
    pub stages: Stages,
}

/// Sums over all tiles.
#[derive(Debug, Default)]
pub(super) struct Stages {
    pub tiles: AtomicU64,
    /// The host's copy into page-locked memory.
    pub fill: AtomicU64,
    pub load: AtomicU64,
    pub fuse: AtomicU64,
    pub store: AtomicU64,
    /// The host's copy out of page-locked memory.
    pub empty: AtomicU64,
}

impl State {
    /// Notes that the device failed for good; the first reason stays. Returns it as a failure of this worker.
    pub(super) fn lose(&self, trouble: &Trouble) -> Failure {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            if first {
                *lost = Some(format!("{} failed: {trouble}", self.label).into());
            }
            first
        });
        self.failure().unwrap_or_else(|| Failure::local(trouble.to_string()))
    }

    fn count(&self, took: &Took) {
        self.stages.tiles.fetch_add(1, Ordering::Relaxed);
        self.record("copy_in", took.load, &self.stages.load);
        self.record("compute", took.fuse, &self.stages.fuse);
        self.record("copy_out", took.store, &self.stages.store);
    }

    fn record(&self, stage: &'static str, time: Duration, sum: &AtomicU64) {
        sum.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        let labels = [("device", self.number.to_string()), ("stage", stage.to_owned())];
        metrics::histogram!("shardfuse_gpu_stage_seconds", &labels).record(time.as_secs_f64());
    }

    /// The failure of a device that is lost.
    pub(super) fn failure(&self) -> Option<Failure> {
        let lost = self.lost.borrow();
        lost.as_deref().map(|why| {
            Failure::local(why).hint("look at nvidia-smi and the kernel's log (Xid); the same command goes on where it stopped once the device works")
        })
    }
}

/// A job that is under way.
#[derive(Debug)]
struct Ticket {
    program: Program,
    finish: Mutex<Finish>,
    state: Arc<State>,
}

#[derive(Debug)]
struct Finish {
    slice: Slice,
    tiles_left: usize,
    reply: Option<oneshot::Sender<Done>>,
}

impl Ticket {
    fn finish(&self) -> std::sync::MutexGuard<'_, Finish> {
        self.finish.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, wrong: Wrong) {
        if let Some(reply) = self.finish().reply.take() {
            let _ = reply.send(Err(wrong));
        }
    }
}

impl Drop for Ticket {
    /// Factors are free again when the last tile lets go of the ticket.
    fn drop(&mut self) {
        self.program.steps.clear();
        self.state.running.fetch_sub(1, Ordering::AcqRel);
        self.state.ended.notify_waiters();
    }
}

struct InFlight {
    slot: Slot,
    ticket: Arc<Ticket>,
    tile: Tile,
}

/// Starts the threads. They end when `orders` is closed; those of a device that does not answer never do.
pub(super) fn start(
    card: Arc<Card>,
    ring: Ring,
    slots: Vec<Slot>,
    orders: mpsc::UnboundedReceiver<Order>,
    state: Arc<State>,
) -> std::io::Result<()> {
    let (to_drain, in_flight) = sync::channel::<InFlight>();
    let (to_free, free) = sync::channel::<Slot>();
    for slot in slots {
        let _ = to_free.send(slot);
    }
    let (drain_card, drain_state) = (Arc::clone(&card), Arc::clone(&state));
    let drain = move || drain(&drain_card, &in_flight, &to_free, &drain_state);
    std::thread::Builder::new().name("cuda-out".into()).spawn(drain)?;
    let feed = move || {
        feed(&card, &ring, orders, &free, &to_drain, &state);
        if card.is_silent() {
            // Streams and handles of a device that does not answer cannot be given back either.
            std::mem::forget(ring);
        }
    };
    std::thread::Builder::new().name("cuda-in".into()).spawn(feed)?;
    Ok(())
}

fn feed(
    card: &Card,
    ring: &Ring,
    mut orders: mpsc::UnboundedReceiver<Order>,
    free: &sync::Receiver<Slot>,
    to_drain: &sync::Sender<InFlight>,
    state: &Arc<State>,
) {
    // A slot whose work was not queued is used for the next tile.
    let mut spare = None;
    while let Some(Order { raw, program, slice, reply }) = orders.blocking_recv() {
        let tiles = program.tiling.tiles(&program.rows);
        let finish = Finish { slice, tiles_left: tiles.len(), reply: Some(reply) };
        let ticket = Arc::new(Ticket { program, finish: Mutex::new(finish), state: Arc::clone(state) });
        for tile in tiles {
            let Some(mut slot) = spare.take().or_else(|| free.recv().ok()) else { return };
            let stop = match state.failure() {
                Some(failure) => Some(Wrong::Failed(failure)),
                None if ticket.finish().reply.as_ref().is_none_or(oneshot::Sender::is_closed) => {
                    Some(Wrong::Failed(Failure::local("the task was revoked")))
                }
                None => {
                    let began = Instant::now();
                    stage(&mut slot, &ticket.program, &tile, &raw);
                    state.record("fill", began.elapsed(), &state.stages.fill);
                    card.begin();
                    let queued = ring.queue(&mut slot, &ticket.program, &tile);
                    queued.err().map(|trouble| {
                        let failure = refused(ring, state, &trouble);
                        card.end();
                        Wrong::Failed(failure)
                    })
                }
            };
            if let Some(wrong) = stop {
                ticket.fail(wrong);
                spare = Some(slot);
                break;
            }
            if to_drain.send(InFlight { slot, ticket: Arc::clone(&ticket), tile }).is_err() {
                return;
            }
        }
    }
    // What is under way reads and writes the ring's memory.
    if !card.is_silent() {
        let _ = card.during(|| ring.settle());
    }
}

/// Work that was queued in part must end before its slot is used again.
fn refused(ring: &Ring, state: &State, trouble: &Trouble) -> Failure {
    match (trouble, ring.settle()) {
        (Trouble::Full, Ok(())) => Failure::local(format!("{} has no memory left for cuBLAS", state.label)),
        (_, Err(settling)) => state.lose(&settling),
        (lost, Ok(())) => state.lose(lost),
    }
}

/// Copies a tile's inputs into page-locked memory.
fn stage(slot: &mut Slot, program: &Program, tile: &Tile, raw: &[u8]) {
    let cols = program.tiling.cols();
    let row = (cols * program.from.bytes().unwrap_or(0)) as usize;
    let (from, to) = ((tile.mine.start - program.rows.start) as usize, (tile.mine.end - program.rows.start) as usize);
    slot.raw.as_mut_slice()[..(to - from) * row].copy_from_slice(&raw[from * row..to * row]);
    let cover = program.tiling.cover(&program.rows);
    let side = slot.side.as_mut_slice();
    for (i, step) in program.steps.iter().enumerate() {
        let (left_at, gains_at) = program.tiling.side(i);
        let rank = step.rank as usize;
        let first = (tile.whole.start - cover.start) as usize * rank;
        let last = (tile.whole.end - cover.start) as usize * rank;
        side[left_at..left_at + last - first].copy_from_slice(&step.left[first..last]);
        let gains = match &step.gain {
            None => &[],
            Some(Gain::Rows { magnitudes, .. }) => &magnitudes[from..to],
            Some(Gain::Columns(gains)) => &gains[..],
        };
        side[gains_at..gains_at + gains.len()].copy_from_slice(gains);
    }
}

fn drain(card: &Card, in_flight: &sync::Receiver<InFlight>, to_free: &sync::Sender<Slot>, state: &State) {
    while let Ok(InFlight { slot, ticket, tile }) = in_flight.recv() {
        let done = slot.done();
        card.end();
        match done {
            Err(trouble) => ticket.fail(Wrong::Failed(state.lose(&trouble))),
            Ok(took) => {
                state.count(&took);
                match judge(&slot, &ticket.program, &tile) {
                    Some(wrong) => ticket.fail(wrong),
                    None => {
                        let began = Instant::now();
                        deliver(&slot, &ticket, &tile);
                        state.record("empty", began.elapsed(), &state.stages.empty);
                    }
                }
            }
        }
        let _ = to_free.send(slot);
    }
}

/// What the status words say.
fn judge(slot: &Slot, program: &Program, tile: &Tile) -> Option<Wrong> {
    let words = &slot.status.as_slice()[..=program.steps.len()];
    let at = |word: u64| (word >> 32, f32::from_bits(word as u32));
    // A row without a norm also makes values that are not finite: the cause is named.
    if let Some(step) = words[1..].iter().position(|w| *w != u64::MAX) {
        let (row, norm) = at(words[1 + step]);
        return Some(Wrong::Norm { step, row: tile.mine.start + row, norm });
    }
    if words[0] == u64::MAX {
        return None;
    }
    let (index, value) = at(words[0]);
    let cols = program.tiling.cols();
    Some(Wrong::NonFinite { row: tile.mine.start + index / cols, col: index % cols, value })
}

/// Copies a tile's result to the part, and answers after the last one.
fn deliver(slot: &Slot, ticket: &Ticket, tile: &Tile) {
    let program = &ticket.program;
    let row = (program.tiling.cols() * program.to.bytes().unwrap_or(0)) as usize;
    let first = (tile.mine.start - program.rows.start) as usize * row;
    let bytes = &slot.out.as_slice()[..(tile.mine.end - tile.mine.start) as usize * row];
    let mut guard = ticket.finish();
    let finish = &mut *guard;
    // Bytes `first..` of the wanted rows; the target takes `skip..skip + its length`.
    let wanted = finish.slice.skip..finish.slice.skip + finish.slice.target.len();
    let (start, end) = (first.max(wanted.start), (first + bytes.len()).min(wanted.end));
    if start < end {
        let target = finish.slice.target.start + (start - wanted.start);
        finish.slice.part[target..target + (end - start)].copy_from_slice(&bytes[start - first..end - first]);
    }
    finish.tiles_left -= 1;
    if finish.tiles_left == 0
        && let Some(reply) = finish.reply.take()
    {
        let out = std::mem::take(&mut finish.slice.part);
        drop(guard);
        let _ = reply.send(Ok(out));
    }
}
