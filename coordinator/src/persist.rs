//! Journal writes, in batches: what arrives while one batch is written goes into the next.

use std::collections::HashMap;

use bytes::Bytes;
use shardfuse_merge::fuse::norm;
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::recipe::{MeasureId, matrix};
use shardfuse_merge::plan::task::{BLOCK_ROWS, Measured, Task, Work};
use shardfuse_merge::{Error, Kind, Result};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::driver::Input;
use crate::journal::{PieceRecord, Record, State, Writer};

/// Pieces in one journal object, at the most.
const BATCH: usize = 4096;

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
    task: JoinHandle<()>,
}

impl Persister {
    /// Starts writing; what is journaled is told to the driver's mailbox.
    pub fn start(state: State, journal: Writer, plan: &Plan, tasks: &[Task], mailbox: mpsc::Sender<Input>) -> Self {
        let (items, receive) = mpsc::unbounded_channel();
        let (fail, failure) = watch::channel(None);
        let measuring = Measuring::new(state, plan, tasks);
        let task = tokio::spawn(async move {
            if let Err(e) = write(receive, journal, measuring, mailbox).await {
                fail.send_replace(Some(e));
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

    /// Waits until everything that was handed over is written.
    pub async fn flush(&mut self) -> Result<()> {
        self.items = None;
        let ended = (&mut self.task).await;
        match (ended, self.failure.borrow().clone()) {
            (_, Some(e)) => Err(e),
            (Err(e), None) => Err(Error::new(Kind::Internal, format!("the journal's writer ended: {e}"))),
            (Ok(()), None) => Ok(()),
        }
    }
}

async fn write(
    mut items: mpsc::UnboundedReceiver<Item>,
    mut journal: Writer,
    mut measuring: Measuring,
    mailbox: mpsc::Sender<Input>,
) -> Result<()> {
    let mut batch = Vec::new();
    while items.recv_many(&mut batch, BATCH).await > 0 {
        let mut persisted = Persisted::default();
        for item in batch.drain(..) {
            if let Some(sums) = item.sums {
                persisted.measured.extend(measuring.take(item.record.task, item.record.piece, sums).await?);
            }
            persisted.pieces.push(item.record);
        }
        journal.append(&Record::Pieces(persisted.pieces.clone())).await?;
        // The driver may have ended already: then the journal is all that counts.
        let _ = mailbox.try_send(Input::Persisted(persisted)).map_err(|e| match e {
            mpsc::error::TrySendError::Full(input) => {
                let mailbox = mailbox.clone();
                tokio::spawn(async move { mailbox.send(input).await });
            }
            mpsc::error::TrySendError::Closed(_) => {}
        });
    }
    Ok(())
}

/// Blocks of measurements, folded once all are there.
#[derive(Debug)]
pub struct Measuring {
    state: State,
    /// By task: the measurement.
    of_task: HashMap<u32, MeasureId>,
    /// By measurement: blocks in all, and columns.
    sizes: Vec<(u32, u64)>,
}

impl Measuring {
    /// The measurements of a plan.
    pub fn new(state: State, plan: &Plan, tasks: &[Task]) -> Self {
        let of_task = tasks.iter().enumerate().filter_map(|(i, t)| match t.work {
            Work::Measure { id, .. } => Some((i as u32, id)),
            Work::Fill { .. } => None,
        });
        let sizes = plan.measures.iter().map(|m| {
            let (rows, cols) = matrix(&m.start.shape);
            (rows.div_ceil(BLOCK_ROWS) as u32, cols)
        });
        Measuring { of_task: of_task.collect(), sizes: sizes.collect(), state }
    }

    /// Stores a block; returns the measurement if it is whole with it.
    async fn take(&mut self, task: u32, block: u32, sums: Vec<u8>) -> Result<Option<Measured>> {
        let Some(id) = self.of_task.get(&task).copied() else { return Ok(None) };
        let expected = self.sizes[id.0 as usize].1 * 8;
        if sums.len() as u64 != expected {
            return Err(Error::new(
                Kind::Internal,
                format!("block {block} of measurement {} has {} bytes, expected {expected}", id.0, sums.len()),
            ));
        }
        self.state.put(&format!("measured/{}/{block}", id.0), Bytes::from(sums)).await?;
        self.fold(id).await
    }

    /// Folds a measurement's blocks in their order, if all are there, and stores the result.
    pub async fn fold(&self, id: MeasureId) -> Result<Option<Measured>> {
        let (blocks, cols) = self.sizes[id.0 as usize];
        let mut all = Vec::with_capacity(blocks as usize);
        for block in 0..blocks {
            match self.state.get(&format!("measured/{}/{block}", id.0)).await? {
                Some(bytes) => {
                    all.push(bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect::<Vec<f64>>())
                }
                None => return Ok(None),
            }
        }
        let sums = norm::fold_blocks(cols as usize, all.iter().map(Vec::as_slice));
        let bytes: Bytes = sums.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>().into();
        let digest = blake3::hash(&bytes).to_hex().to_string();
        let name = format!("measured/{}/all", id.0);
        self.state.put(&name, bytes).await?;
        Ok(Some(Measured { id, url: self.state.place(&name)?.to_string(), digest }))
    }
}
