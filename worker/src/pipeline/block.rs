//! One block of a statistic: its rows, fetched, stepped and reduced.

use std::ops::Range;
use std::sync::Arc;

use futures::future::try_join_all;
use shardfuse_merge::plan::task::Reduce;
use shardfuse_merge::recipe::Span;
use shardfuse_proto::v1;

use super::fuse::{Extent, Steps, held};
use super::raw::Raw;
use super::read::Reader;
use super::shared::Shared;
use crate::Failure;
use crate::work::{Done, Gate};

/// Where a block's rows come from.
struct Block<'a> {
    reduce: &'a Reduce,
    rows: Range<u64>,
    cols: u64,
    /// The bytes of the rows as they are stored.
    stored: Vec<Span>,
}

impl<'a> Block<'a> {
    fn new(reduce: &'a Reduce, block: u32) -> Result<Self, Failure> {
        let (start, kind) = (&reduce.statistic.start, reduce.statistic.kind);
        let (height, cols) = start.matrix();
        let first = u64::from(block) * kind.block_rows();
        if first >= height {
            return Err(Failure::local(format!("block {block} lies behind the {height} rows of {}", start.name())));
        }
        let rows = first..(first + kind.block_rows()).min(height);
        let stored = start.ranges(rows.clone());
        Ok(Block { reduce, rows, cols, stored })
    }

    /// Bytes of memory that it takes: as it is stored, in fp32, for the steps, and the state.
    fn need(&self, shared: &Shared) -> u64 {
        let (statistic, rows) = (&self.reduce.statistic, self.rows.end - self.rows.start);
        let stored: u64 = self.stored.iter().map(|span| span.bytes.end - span.bytes.start).sum();
        stored
            .saturating_add(rows.saturating_mul(self.cols.saturating_mul(4)))
            .saturating_add(held(&statistic.steps, rows, self.cols, shared.loading.bytes()))
            .saturating_add(statistic.kind.bytes(self.cols))
    }
}

/// Makes a block once its memory is there.
pub async fn make(reader: Reader<'_>, reduce: &Reduce, block: u32, gate: &Gate) -> Result<Done, Failure> {
    let name = format!("block {block} of the statistic of {}", reduce.statistic.tensor);
    let plan = Block::new(reduce, block)?;
    let _share = reader.shared.admit(gate, plan.need(reader.shared), &name).await?;
    let bytes = state(reader, plan).await.map_err(|f| f.at(format_args!("tensor {}", reduce.statistic.tensor)))?;
    reader.inputs.meter().fused(bytes.len() as u64);
    let result = Some(v1::piece_done::Result::Sums(bytes));
    Ok(Done { piece: block, result, ..Done::default() })
}

/// The state of a block.
async fn state(reader: Reader<'_>, block: Block<'_>) -> Result<Vec<u8>, Failure> {
    let (shared, Block { reduce, rows, cols, stored }) = (reader.shared, block);
    let kind = reduce.statistic.kind;
    let turn = shared.reads.turn().await;
    let reads = stored.into_iter().map(|span| reader.inputs.lend(shared, span.object, span.bytes));
    let (read, steps) = futures::try_join!(
        try_join_all(reads),
        Steps::load(reader, &reduce.statistic.steps, Extent { rows: rows.clone(), cols })
    )?;
    let raw = Raw::new(&reduce.statistic.start, rows, read);
    turn.moved(raw.bytes());
    let w = Arc::new(steps).apply_to_all(reader, raw).await?;
    let kernels = shared.kernels;
    // The rows are reduced in order.
    shared.compute(move |_| Ok(kind.accumulate(&kernels, cols, &w))).await
}
