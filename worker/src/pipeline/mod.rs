//! From an assignment to finished pieces: fetch, fuse, put, under a byte budget.
//!
//! Reads and writes are asynchronous; arithmetic runs on threads of its own ([`threads`]), so a long fusion never delays a
//! heartbeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use shardfuse_merge::plan::task::{Assignment, Fill, Job, Reduce};
use shardfuse_proto::v1;
use shardfuse_store::{Allow, Location, PartSlot, Stores, UploadId, digest};
use tokio::sync::mpsc;
use tracing::debug;

use crate::Failure;
use crate::device::Device;
use crate::device::cpu::Kernels;
use crate::session::{Gate, Meter, Work};

mod budget;
mod cache;
mod climb;
mod coalesce;
mod flow;
mod gpu;
mod inputs;
mod level;
mod operands;
mod part;
mod permit;
#[cfg(test)]
mod properties;
mod reduce;
mod statistics;
mod steps;
#[cfg(test)]
mod tests;
mod threads;

use budget::{Budget, Share};
use flow::Flow;
use inputs::Inputs;
use level::{Level, OneOf};
use operands::Factors;
use statistics::{Derived, Statistics};
use threads::Threads;

/// What a piece may need beyond twice the budget, before it is refused: rows of real models fit by far.
const TOLERATED: u64 = 4 << 30;
/// Derived values that are kept, in bytes at the most; a budget below gives an eighth of the factors' share.
const DERIVED: u64 = 64 << 20;

/// A piece that is finished, ready to be reported.
pub type Done = v1::PieceDone;

/// What a worker did and uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of parts put since the process began.
    pub bytes_put: u64,
    /// Bytes of inputs read since the process began.
    pub bytes_read: u64,
    /// Bytes of the budget in use.
    pub memory_used: u64,
}

/// What a part goes through.
#[derive(Debug, Clone, Copy)]
pub enum Stage {
    /// Reading what it is made of.
    Fetch,
    /// Computing it.
    Fuse,
    /// Putting it.
    Put,
}

/// What all assignments of a worker share.
#[derive(Debug)]
pub struct Shared {
    stores: Arc<Stores>,
    allow: Allow,
    /// The whole budget in bytes.
    memory: u64,
    /// Half of it: parts while they are made.
    budget: Budget,
    /// An eighth: factors while they are read and laid out. Whoever holds a share of it waits for no other.
    loading: Budget,
    /// Parts that fetch, in turn.
    reads: Flow,
    /// Parts that are put, in turn.
    writes: Flow,
    /// A quarter: factors that are kept.
    factors: Factors,
    derived: Derived,
    kernels: Kernels,
    device: Device,
    said: gpu::Said,
    threads: Threads,
    bytes_read: Arc<AtomicU64>,
    bytes_put: AtomicU64,
    used: Level,
}

impl Shared {
    /// Runs arithmetic.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Threads) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.threads.run(work).await
    }

    /// Notes how long a part's stage took.
    fn took(&self, stage: Stage, began: Instant) {
        let stage = match stage {
            Stage::Fetch => "read",
            Stage::Fuse => "fuse",
            Stage::Put => "write",
        };
        metrics::histogram!("shardfuse_part_seconds", "stage" => stage).record(began.elapsed().as_secs_f64());
    }

    /// Waits until a piece may begin: its attempt is not held, and its memory is there.
    async fn admit(&self, gate: &Gate, need: u64, piece: &str) -> Result<(Share, OneOf), Failure> {
        let most = (2 * self.memory).max(TOLERATED);
        if need > most {
            let failure = Failure::local(format!("{piece} takes {need} bytes of memory, this worker gives {most}"));
            return Err(failure.hint("a worker with more --memory, or a smaller --part-size"));
        }
        loop {
            gate.passed().await;
            let waiting = OneOf::waiting();
            let share = self.budget.take(need).await;
            drop(waiting);
            // It may have been held while it waited; the memory is for others then.
            if gate.is_open() {
                self.used.show(self.memory_used());
                return Ok((share, OneOf::in_flight()));
            }
        }
    }

    /// Bytes that parts and loading hold.
    fn lent(&self) -> u64 {
        self.budget.in_use() + self.loading.in_use()
    }

    /// Bytes of the budget in use: what parts and loading hold, factors that are kept, and buffers that wait to be lent.
    fn memory_used(&self) -> u64 {
        self.lent() + self.budget.idle() + self.loading.idle() + self.factors.bytes() + self.derived.bytes()
    }
}

/// A worker's pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    shared: Arc<Shared>,
}

impl Pipeline {
    /// A pipeline with a byte budget and a number of threads, which may read and write every place. It fuses on `device` what
    /// has a path there. With no thread of its own it computes where it is awaited, which a simulation can replay.
    pub fn new(stores: Arc<Stores>, memory: u64, threads: usize, device: Device) -> Result<Self, Failure> {
        Self::limited(stores, Allow::everything(), memory, threads, device)
    }

    /// As [`Self::new`], refusing assignments that lead elsewhere than `allow` does.
    pub fn limited(
        stores: Arc<Stores>,
        allow: Allow,
        memory: u64,
        threads: usize,
        device: Device,
    ) -> Result<Self, Failure> {
        // A GPU's page-locked memory is a part of the budget; it was opened with half of it at the most.
        let memory = memory.saturating_sub(device.host_bytes());
        level::begin(memory, &device);
        let shared = Shared {
            stores,
            allow,
            memory,
            budget: Budget::new(memory / 2),
            loading: Budget::new(memory / 8),
            reads: Flow::new(),
            writes: Flow::new(),
            factors: Factors::new(memory / 4),
            derived: Derived::new(DERIVED.min(memory / 32)),
            kernels: Kernels::best(),
            device,
            said: gpu::Said::default(),
            threads: Threads::new(threads)?,
            bytes_read: Arc::default(),
            bytes_put: AtomicU64::new(0),
            used: Level::new("shardfuse_memory_used_bytes"),
        };
        Ok(Pipeline { shared: Arc::new(shared) })
    }

    /// The class whose bits its arithmetic has.
    pub fn device_class(&self) -> &str {
        self.shared.device.class()
    }

    /// Does an assignment, sending each piece as it is finished. No piece begins while the gate is closed.
    async fn work(
        &self,
        assignment: &Assignment,
        done: &mpsc::Sender<Done>,
        gate: &Gate,
        meter: &Meter,
    ) -> Result<(), Failure> {
        permit::check(&self.shared.allow, assignment)?;
        let inputs = Inputs::new(&self.shared, &assignment.objects, meter)?;
        let attempt = v1::Attempt { task: assignment.task, epoch: assignment.epoch, merge: assignment.merge.clone() };
        match &assignment.job {
            Job::Fill(fill) => {
                let statistics = Statistics::new(&fill.statistics);
                let mut running = FuturesUnordered::new();
                for part in &fill.parts {
                    running.push(self.part(&inputs, &statistics, fill, *part, gate));
                }
                while let Some(result) = running.next().await {
                    send(done, &attempt, result?).await?;
                }
            }
            Job::Reduce(reduce) => {
                let statistics = Statistics::new(&reduce.statistics);
                let mut running = FuturesUnordered::new();
                for block in &reduce.blocks {
                    running.push(self.block(&inputs, &statistics, reduce, *block, gate));
                }
                while let Some(result) = running.next().await {
                    send(done, &attempt, result?).await?;
                }
            }
        }
        Ok(())
    }

    async fn part(
        &self,
        inputs: &Inputs,
        statistics: &Statistics,
        fill: &Fill,
        part: u32,
        gate: &Gate,
    ) -> Result<Done, Failure> {
        let shared = &self.shared;
        let name = format!("part {part} of {}", fill.url);
        let _share = shared.admit(gate, part::need(shared, fill, part), &name).await?;
        let filled = part::fill(shared, inputs, statistics, fill, part).await?;
        let offset = part::range_of(fill, part).start;
        let size = fill.size;
        let bytes = shared.budget.lend(filled.bytes);
        let (hashed, length) = (bytes.clone(), bytes.len() as u64);
        let chaining = shared.compute(move |_| Ok(digest::chaining_value(&hashed, offset, size))).await?;
        let store_id = match fill.check {
            true => String::new(),
            false => self.put(inputs, fill, PartSlot { number: part, offset }, bytes).await?,
        };
        let receipt = v1::PartReceipt { store_id, length, chaining: chaining.to_vec() };
        let (zero, live): (Vec<_>, Vec<_>) = filled.seen.into_iter().partition(|(_, zero)| *zero);
        let names = |list: Vec<(String, bool)>| list.into_iter().map(|(name, _)| name).collect();
        Ok(Done {
            attempt: None,
            piece: part,
            result: Some(v1::piece_done::Result::Part(receipt)),
            zero_factors: names(zero),
            live_factors: names(live),
        })
    }

    /// Puts a part, and returns the store's id of it.
    async fn put(&self, inputs: &Inputs, fill: &Fill, slot: PartSlot, bytes: Bytes) -> Result<String, Failure> {
        let (shared, part, length) = (&self.shared, slot.number, bytes.len() as u64);
        let at: Location = fill.url.parse()?;
        let upload = UploadId::new(&fill.upload);
        let turn = shared.writes.turn().await;
        debug!(file = %fill.url, part, "put");
        let putting = Instant::now();
        let put = shared.stores.open(&at).put_part(&at, &upload, slot, bytes).await;
        let store_id = put.map_err(|e| Failure::from(e).at(format_args!("part {part}")))?;
        turn.moved(length);
        shared.took(Stage::Put, putting);
        shared.bytes_put.fetch_add(length, Ordering::Relaxed);
        inputs.meter().put(length);
        metrics::counter!("shardfuse_put_bytes_total").increment(length);
        Ok(store_id.as_str().to_owned())
    }

    async fn block(
        &self,
        inputs: &Inputs,
        statistics: &Statistics,
        reduce: &Reduce,
        block: u32,
        gate: &Gate,
    ) -> Result<Done, Failure> {
        let shared = &self.shared;
        let name = format!("block {block} of the statistic of {}", reduce.statistic.tensor);
        let _share = shared.admit(gate, reduce::need(shared, reduce), &name).await?;
        let bytes = reduce::block(shared, inputs, statistics, reduce, block).await?;
        inputs.meter().fused(bytes.len() as u64);
        Ok(Done {
            attempt: None,
            piece: block,
            result: Some(v1::piece_done::Result::Sums(bytes)),
            zero_factors: Vec::new(),
            live_factors: Vec::new(),
        })
    }
}

impl Work for Pipeline {
    fn device_class(&self) -> String {
        Pipeline::device_class(self).to_owned()
    }

    async fn lost(&self) -> Failure {
        match &self.shared.device {
            Device::Cpu => std::future::pending().await,
            Device::Cuda(gpu) => gpu.lost().await,
        }
    }

    fn usage(&self) -> Usage {
        let memory_used = self.shared.memory_used();
        self.shared.used.show(memory_used);
        Usage {
            bytes_put: self.shared.bytes_put.load(Ordering::Relaxed),
            bytes_read: self.shared.bytes_read.load(Ordering::Relaxed),
            memory_used,
        }
    }

    async fn run(
        &self,
        assignment: Assignment,
        done: mpsc::Sender<Done>,
        gate: Gate,
        meter: Meter,
    ) -> Result<(), Failure> {
        self.work(&assignment, &done, &gate, &meter).await
    }
}

async fn send(done: &mpsc::Sender<Done>, attempt: &v1::Attempt, mut piece: Done) -> Result<(), Failure> {
    piece.attempt = Some(attempt.clone());
    done.send(piece).await.map_err(|_| Failure::local("the session ended"))
}
