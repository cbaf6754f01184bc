//! From an assignment to finished pieces: fetch, fuse, put, under a byte budget.
//!
//! Reads and writes are asynchronous; arithmetic runs on threads of its own, so a long fusion never delays a heartbeat.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rayon::ThreadPool;
use shardfuse_merge::plan::task::{Assignment, Fill, Gauge, Job};
use shardfuse_proto::v1;
use shardfuse_store::{Location, PartSlot, Stores, UploadId, digest};
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use crate::Failure;
use crate::device::Device;
use crate::device::cpu::Kernels;

mod budget;
mod factors;
mod gauge;
mod gpu;
mod inputs;
mod measured;
mod part;
mod steps;

use budget::Budget;
use factors::Factors;
use inputs::Inputs;
use measured::Norms;

/// A piece that is finished, ready to be reported.
pub type Done = v1::PieceDone;

/// What all assignments of a worker share.
#[derive(Debug)]
pub struct Shared {
    stores: Arc<Stores>,
    budget: Budget,
    factors: Factors,
    kernels: Kernels,
    device: Device,
    said: gpu::Said,
    pool: Arc<ThreadPool>,
}

impl Shared {
    /// Runs arithmetic on the worker's own threads.
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ThreadPool) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (send, receive) = oneshot::channel();
        let pool = Arc::clone(&self.pool);
        self.pool.spawn(move || {
            let _ = send.send(work(&pool));
        });
        receive.await.unwrap_or_else(|_| Err(Failure::local("a compute thread panicked")))
    }
}

/// A worker's pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    shared: Arc<Shared>,
}

impl Pipeline {
    /// A pipeline with a byte budget and a number of threads, that fuses on `device` what has a path there.
    pub fn new(stores: Arc<Stores>, memory: u64, threads: usize, device: Device) -> Result<Self, Failure> {
        // A GPU's page-locked memory is a part of the budget.
        let memory = memory.saturating_sub(device.host_bytes()).max(memory / 2);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("fuse-{i}"))
            .build()
            .map_err(|e| Failure::local(format!("cannot start {threads} compute threads: {e}")))?;
        let shared = Shared {
            stores,
            budget: Budget::new(memory / 2),
            factors: Factors::new(memory / 4),
            kernels: Kernels::best(),
            device,
            said: gpu::Said::default(),
            pool: Arc::new(pool),
        };
        Ok(Pipeline { shared: Arc::new(shared) })
    }

    /// The class of the device: two pipelines of one class give the same bits.
    pub fn device_class(&self) -> &str {
        self.shared.device.class()
    }

    /// Waits until the device fails for good. Never, for a CPU.
    pub async fn lost(&self) -> Failure {
        match &self.shared.device {
            Device::Cpu => std::future::pending().await,
            Device::Cuda(gpu) => gpu.lost().await,
        }
    }

    /// Does an assignment, sending each piece as it is finished.
    pub async fn run(&self, assignment: &Assignment, done: &mpsc::Sender<Done>) -> Result<(), Failure> {
        let inputs = Inputs::new(Arc::clone(&self.shared.stores), &assignment.objects)?;
        let attempt = v1::Attempt { task: assignment.task, epoch: assignment.epoch, merge: assignment.merge.clone() };
        match &assignment.job {
            Job::Fill(fill) => {
                let norms = Norms::new(&fill.measured);
                let mut running = FuturesUnordered::new();
                for part in &fill.parts {
                    running.push(self.part(&inputs, &norms, fill, *part));
                }
                while let Some(result) = running.next().await {
                    send(done, &attempt, result?).await?;
                }
            }
            Job::Gauge(gauge) => {
                let norms = Norms::new(&gauge.measured);
                let mut running = FuturesUnordered::new();
                for block in &gauge.blocks {
                    running.push(self.block(&inputs, &norms, gauge, *block));
                }
                while let Some(result) = running.next().await {
                    send(done, &attempt, result?).await?;
                }
            }
        }
        Ok(())
    }

    async fn part(&self, inputs: &Inputs, norms: &Norms, fill: &Fill, part: u32) -> Result<Done, Failure> {
        let shared = &self.shared;
        let _share = shared.budget.take(part::need(shared, fill, part)).await;
        let filled = part::fill(shared, inputs, norms, fill, part).await?;
        let offset = part::range_of(fill, part).start;
        let size = fill.size;
        let bytes = shared.budget.lend(filled.bytes);
        let (hashed, length) = (bytes.clone(), bytes.len() as u64);
        let chaining = shared.compute(move |_| Ok(digest::chaining_value(&hashed, offset, size))).await?;
        let at: Location = fill.url.parse()?;
        let upload = UploadId::new(&fill.upload);
        debug!(file = %fill.url, part, "put");
        let store_id = shared.stores.open(&at).put_part(&at, &upload, PartSlot { number: part, offset }, bytes).await?;
        let receipt = v1::PartReceipt { store_id: store_id.as_str().to_owned(), length, chaining: chaining.to_vec() };
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

    async fn block(&self, inputs: &Inputs, norms: &Norms, gauge: &Gauge, block: u32) -> Result<Done, Failure> {
        let _share = self.shared.budget.take(gauge::need(gauge)).await;
        let sums = gauge::block(&self.shared, inputs, norms, gauge, block).await?;
        let bytes = sums.iter().flat_map(|s| s.to_le_bytes()).collect();
        Ok(Done {
            attempt: None,
            piece: block,
            result: Some(v1::piece_done::Result::Sums(bytes)),
            zero_factors: Vec::new(),
            live_factors: Vec::new(),
        })
    }
}

async fn send(done: &mpsc::Sender<Done>, attempt: &v1::Attempt, mut piece: Done) -> Result<(), Failure> {
    piece.attempt = Some(attempt.clone());
    done.send(piece).await.map_err(|_| Failure::local("the session ended"))
}
