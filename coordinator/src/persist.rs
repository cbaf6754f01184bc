//! Journal writes, in batches: what arrives while one batch is written goes into the next.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::task::{StatisticValue, Task, Work};
use shardfuse_merge::statistic::survival::Sums;
use shardfuse_merge::statistic::{Kind as StatisticKind, StatisticId, numbers};
use shardfuse_merge::{Error, Kind, Result};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::journal::{PieceRecord, Record, Writer};
use crate::measured::Measured;
use crate::state::OutputState;

#[cfg(test)]
mod orders;

/// Pieces in one journal object, at the most: about 300 kB, and more only by the names of factors.
const BATCH: usize = 1024;
/// How long receipts gather for one object: this multiple of the time that the last object took to write, up to a limit. So a fast disk journals at once, and a slow store gets a few objects a second and not one for each part.
const GATHER: (u32, Duration) = (4, Duration::from_millis(500));
/// Sums that are read at a time.
const CONCURRENT: usize = 16;

/// A piece to journal.
#[derive(Debug)]
pub struct Item {
    /// What is journaled.
    pub record: PieceRecord,
    /// A measured block's sums.
    pub sums: Option<Vec<u8>>,
}

/// Pieces that are journaled, and the measurements that are whole with them.
#[derive(Debug, Default)]
pub struct Persisted {
    /// The pieces.
    pub pieces: Vec<PieceRecord>,
    /// The measurements.
    pub measured: Vec<Measured>,
}

/// The task that writes.
#[derive(Debug)]
pub struct Persister {
    items: Option<mpsc::UnboundedSender<Item>>,
    failure: watch::Receiver<Option<Error>>,
    task: JoinHandle<Option<Writer>>,
}

impl Persister {
    /// Starts writing. `tell` hears what is journaled, and must not block.
    pub fn start(
        state: OutputState,
        journal: Writer,
        plan: &Plan,
        tasks: &[Task],
        tell: impl Fn(Persisted) + Send + Sync + 'static,
    ) -> Self {
        let (items, receive) = mpsc::unbounded_channel();
        let (fail, failure) = watch::channel(None);
        let mut log = Journaled { journal, measuring: Measuring::new(state, plan, tasks) };
        let task = tokio::spawn(async move {
            match write(receive, &mut log, tell, &Tokio).await {
                Ok(()) => Some(log.journal),
                Err(e) => {
                    fail.send_replace(Some(e));
                    None
                }
            }
        });
        Persister { items: Some(items), failure, task }
    }

    /// Hands over a piece.
    pub fn put(&self, item: Item) {
        if let Some(items) = &self.items {
            // A writer that is gone has failed, and `failed` says so.
            let _ = items.send(item);
        }
    }

    /// Ends only when writing failed.
    pub async fn failed(&mut self) -> Error {
        loop {
            if let Some(e) = self.failure.borrow_and_update().clone() {
                return e;
            }
            if self.failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until everything that was handed over is written, and gives the journal back.
    pub async fn flush(&mut self) -> Result<Writer> {
        self.items = None;
        let ended = (&mut self.task).await;
        match (ended, self.failure.borrow().clone()) {
            (_, Some(e)) => Err(e),
            (Err(e), None) => Err(Error::new(Kind::Internal, format!("the journal's writer ended: {e}"))),
            (Ok(None), None) => Err(Error::new(Kind::Internal, "the journal's writer failed without saying why")),
            (Ok(Some(journal)), None) => Ok(journal),
        }
    }
}

/// Where pieces are written down.
trait Log {
    /// Writes a batch. When this returns, a coordinator that recovers finds all of it.
    async fn write(&mut self, batch: Vec<Item>) -> Result<Persisted>;
}

/// The journal, with the sums of measured blocks beside it.
struct Journaled {
    journal: Writer,
    measuring: Measuring,
}

impl Log for Journaled {
    async fn write(&mut self, batch: Vec<Item>) -> Result<Persisted> {
        let mut persisted = Persisted::default();
        for item in batch {
            if let Some(sums) = item.sums {
                persisted.measured.extend(self.measuring.take(item.record.task, item.record.piece, sums).await?);
            }
            persisted.pieces.push(item.record);
        }
        for pieces in persisted.pieces.chunks(BATCH) {
            self.journal.append(Record::Pieces(pieces.to_vec())).await?;
        }
        Ok(persisted)
    }
}

/// What the writer runs on: tokio, or in a test a scheduler that tries many orders.
trait Runtime {
    /// Waits until `more` ends, but not longer than this.
    async fn wait(&self, most: Duration, more: impl Future<Output = ()> + Send);
}

struct Tokio;

impl Runtime for Tokio {
    async fn wait(&self, most: Duration, more: impl Future<Output = ()> + Send) {
        let _ = tokio::time::timeout(most, more).await;
    }
}

async fn write(
    mut items: mpsc::UnboundedReceiver<Item>,
    log: &mut impl Log,
    tell: impl Fn(Persisted),
    runtime: &impl Runtime,
) -> Result<()> {
    let mut batch = Vec::new();
    let mut took = Duration::ZERO;
    while items.recv_many(&mut batch, BATCH).await > 0 {
        let (times, most) = GATHER;
        // Ends early when there is nobody left to send: then the end of the merge waits for this.
        let gather = async { while batch.len() < BATCH && items.recv_many(&mut batch, BATCH).await > 0 {} };
        runtime.wait((times * took).min(most), gather).await;
        let began = Instant::now();
        let persisted = log.write(std::mem::take(&mut batch)).await?;
        took = began.elapsed();
        tell(persisted);
    }
    Ok(())
}

/// Blocks of measurements, folded once all are there.
#[derive(Debug)]
pub struct Measuring {
    state: OutputState,
    /// By task: the measurement.
    of_task: BTreeMap<u32, StatisticId>,
    /// By statistic: its kind, blocks in all, and columns.
    sizes: Vec<(StatisticKind, u32, u64)>,
    /// By measurement: the blocks whose sums are stored, looked up when the first one of this run arrives.
    stored: HashMap<u32, HashSet<u32>>,
}

impl Measuring {
    /// The measurements of a plan.
    pub fn new(state: OutputState, plan: &Plan, tasks: &[Task]) -> Self {
        let of_task = tasks.iter().enumerate().filter_map(|(i, t)| match t.work {
            Work::Reduce { id, .. } => Some((i as u32, id)),
            Work::Fill { .. } => None,
        });
        let sizes = plan.statistics.iter().map(|m| (m.kind, m.blocks(), m.start.matrix().1));
        Measuring { of_task: of_task.collect(), sizes: sizes.collect(), stored: HashMap::new(), state }
    }

    /// Every measurement.
    pub fn ids(&self) -> impl Iterator<Item = StatisticId> + use<> {
        (0..self.sizes.len() as u32).map(StatisticId)
    }

    /// The pieces of a measurement, as task and block.
    pub fn pieces(&self, id: StatisticId, tasks: &[Task]) -> Vec<(u32, u32)> {
        let of = self.of_task.iter().filter(|(_, of)| **of == id).map(|(task, _)| *task);
        of.flat_map(|task| tasks[task as usize].work.pieces().map(move |block| (task, block))).collect()
    }

    /// The blocks whose sums are stored.
    pub async fn blocks(&self, id: StatisticId) -> Result<HashSet<u32>> {
        let all = stream::iter(0..self.sizes[id.0 as usize].1)
            .map(|block| async move { Ok::<_, Error>((block, self.state.has(&name(id, block)).await?)) })
            .buffer_unordered(CONCURRENT)
            .boxed();
        all.try_filter_map(|(block, there)| async move { Ok(there.then_some(block)) }).try_collect().await
    }

    /// Stores a block; returns the measurement if it is whole with it.
    async fn take(&mut self, task: u32, block: u32, sums: Vec<u8>) -> Result<Option<Measured>> {
        let Some(id) = self.of_task.get(&task).copied() else { return Ok(None) };
        let (kind, _, cols) = self.sizes[id.0 as usize];
        let expected = kind.bytes(cols);
        if sums.len() as u64 != expected {
            return Err(Error::new(
                Kind::Internal,
                format!("block {block} of measurement {} has {} bytes, expected {expected}", id.0, sums.len()),
            ));
        }
        self.state.put(&name(id, block), Bytes::from(sums)).await?;
        let mut stored = match self.stored.remove(&id.0) {
            Some(stored) => stored,
            None => self.blocks(id).await?,
        };
        stored.insert(block);
        let fact = self.fold(id, &stored).await?;
        self.stored.insert(id.0, stored);
        Ok(fact)
    }

    /// A measurement that was folded earlier.
    pub async fn folded(&self, id: StatisticId) -> Result<Option<Measured>> {
        let name = format!("measured/{}/all", id.0);
        let Some(bytes) = self.state.get(&name).await? else { return Ok(None) };
        self.fact(id, &name, &bytes).map(Some)
    }

    /// Folds a measurement's blocks in their order, if all are stored, and stores the result.
    pub async fn fold(&self, id: StatisticId, stored: &HashSet<u32>) -> Result<Option<Measured>> {
        let (kind, blocks, cols) = self.sizes[id.0 as usize];
        if stored.len() < blocks as usize {
            return Ok(None);
        }
        let all: Vec<Option<Bytes>> = stream::iter(0..blocks)
            .map(|block| async move { self.state.get(&name(id, block)).await })
            .buffered(CONCURRENT)
            .boxed()
            .try_collect()
            .await?;
        let Some(all) = all.into_iter().collect::<Option<Vec<Bytes>>>() else { return Ok(None) };
        let bytes = Bytes::from(kind.fold(cols, all.iter().map(AsRef::as_ref)));
        let name = format!("measured/{}/all", id.0);
        self.state.put(&name, bytes.clone()).await?;
        self.fact(id, &name, &bytes).map(Some)
    }

    fn fact(&self, id: StatisticId, name: &str, bytes: &[u8]) -> Result<Measured> {
        let digest = blake3::hash(bytes).to_hex().to_string();
        let (kind, _, cols) = self.sizes[id.0 as usize];
        let whole = bytes.len() as u64 == kind.bytes(cols);
        let is_survival = whole && matches!(kind, StatisticKind::Survival { .. });
        let survival = is_survival.then(|| Sums::read(&numbers(bytes)));
        Ok(Measured { value: StatisticValue { id, url: self.state.place(name)?.to_string(), digest }, survival })
    }
}

fn name(id: StatisticId, block: u32) -> String {
    format!("measured/{}/{block}", id.0)
}
