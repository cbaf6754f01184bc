//! What all assignments of a worker share: the stores, the budget, the threads, the device and what is kept.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use shardfuse_merge::units::bytes;
use shardfuse_store::{Allow, Stores};
use tokio::sync::Semaphore;

use super::copying::Copying;
use super::flow::{Budget, Share, Turns};
use super::fuse::fallbacks::Fallbacks;
use super::level::{self, Level, OneOf};
use super::read::{Derived, Factors, MadeMatrices, StoredTensors};
use super::stages::Stages;
use super::threads::Threads;
use crate::Failure;
use crate::device::Device;
use crate::device::cpu::Kernels;
use crate::work::{Gate, Usage};

/// What one part or block may need beyond twice the budget, before it is refused: rows of real models fit by far.
const TOLERATED: u64 = 4 << 30;
/// Derived values that are kept, in bytes at the most; a budget below gives an eighth of the factors' share.
const DERIVED: u64 = 64 << 20;

/// Scattered views of large tensors that are read at a time, a few MiB each.
const PICKING: usize = 4;

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
    /// Where inputs are read and parts are put.
    pub stores: Arc<Stores>,
    /// Where it may read and write.
    pub allow: Allow,
    /// The whole budget in bytes.
    memory: u64,
    /// Half of it: parts while they are made.
    pub budget: Budget,
    /// An eighth: factors while they are read and laid out. Whoever holds a share of it waits for no other.
    pub loading: Budget,
    /// Parts that fetch, in turn.
    pub reads: Turns,
    /// Parts that are put, in turn.
    pub writes: Turns,
    /// An eighth: factors that are kept.
    pub factors: Factors,
    /// A sixteenth: matrices that were made, and are kept.
    pub made: MadeMatrices,
    /// A sixteenth: tensors of scattered views that are kept.
    pub tensors: StoredTensors,
    /// Who reads scattered views of a tensor that is too large to be kept.
    pub picking: Semaphore,
    /// What statistics made of operands.
    pub derived: Derived,
    /// The CPU's arithmetic.
    pub kernels: Kernels,
    /// What fuses where it can.
    pub device: Device,
    /// Why it could not.
    pub fallbacks: Fallbacks,
    /// Where arithmetic runs.
    pub threads: Threads,
    /// Parts that the store copies.
    pub copying: Copying,
    /// Where parts and blocks are.
    pub stages: Stages,
    /// Bytes of inputs read since the process began.
    pub bytes_read: Arc<AtomicU64>,
    /// Bytes of parts put since the process began.
    pub bytes_put: AtomicU64,
    used: Level,
}

impl Shared {
    /// A share of `memory` bytes for everything, less what the device holds of the host's memory.
    pub fn new(
        stores: Arc<Stores>,
        allow: Allow,
        memory: u64,
        threads: usize,
        device: Device,
    ) -> Result<Self, Failure> {
        // A GPU's page-locked memory is a part of the budget; it was opened with half of it at the most.
        let memory = memory.saturating_sub(device.host_bytes());
        level::begin(memory, &device);
        Ok(Shared {
            stores,
            allow,
            memory,
            budget: Budget::new(memory / 2),
            loading: Budget::new(memory / 8),
            reads: Turns::new(),
            writes: Turns::new(),
            factors: Factors::new(memory / 8),
            made: MadeMatrices::new(memory / 16),
            tensors: StoredTensors::new(memory / 16),
            picking: Semaphore::new(PICKING),
            derived: Derived::new(DERIVED.min(memory / 32)),
            kernels: Kernels::best(),
            device,
            fallbacks: Fallbacks::default(),
            threads: Threads::new(threads)?,
            copying: Copying::default(),
            stages: Stages::default(),
            bytes_read: Arc::default(),
            bytes_put: AtomicU64::new(0),
            used: Level::new("shardfuse_memory_used_bytes"),
        })
    }

    /// Runs arithmetic.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Threads) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.threads.run(work).await
    }

    /// Notes how long a part's stage took.
    pub fn took(&self, stage: Stage, began: Instant) {
        let stage = match stage {
            Stage::Fetch => "read",
            Stage::Fuse => "fuse",
            Stage::Put => "write",
        };
        metrics::histogram!("shardfuse_part_seconds", "stage" => stage).record(began.elapsed().as_secs_f64());
    }

    /// Waits until a part or a block may begin: its attempt is not held, and its memory is there.
    pub async fn admit(&self, gate: &Gate, need: u64, name: &str) -> Result<(Share, OneOf), Failure> {
        let most = (2 * self.memory).max(TOLERATED);
        if need > most {
            let failure =
                Failure::local(format!("{name} takes {} of memory, this worker gives {}", bytes(need), bytes(most)));
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

    /// What the worker did and uses.
    pub fn usage(&self) -> Usage {
        use std::sync::atomic::Ordering::Relaxed;
        let memory_used = self.memory_used();
        self.used.show(memory_used);
        Usage {
            bytes_put: self.bytes_put.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            bytes_copied: self.copying.bytes.load(Relaxed),
            memory_used,
            stages: self.stages.now(),
        }
    }

    /// Bytes that parts and loading hold.
    pub fn lent(&self) -> u64 {
        self.budget.in_use() + self.loading.in_use()
    }

    /// Bytes of the budget in use: what parts and loading hold, factors that are kept, and buffers that wait to be lent.
    pub fn memory_used(&self) -> u64 {
        self.lent() + self.budget.idle() + self.loading.idle() + self.kept()
    }

    /// Bytes that are kept for the next parts.
    fn kept(&self) -> u64 {
        self.factors.bytes() + self.made.bytes() + self.tensors.bytes() + self.derived.bytes()
    }
}
