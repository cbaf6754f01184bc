//! One block of a statistic: its rows, fetched, stepped and reduced.

use std::ops::Range;
use std::sync::Arc;

use shardfuse_merge::plan::task::Reduce;
use shardfuse_merge::recipe::Span;
use shardfuse_merge::{Dtype, Kind};
use shardfuse_proto::v1;

use super::fuse::{Extent, Steps, held};
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
    stored: Span,
    /// The dtype of their values.
    from: Dtype,
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
        let spans = start.ranges(rows.clone());
        let ([stored], Some((_, float))) = (spans.as_slice(), start.as_plain()) else {
            let what = format!("a statistic of {}, which is not stored as plain values", start.name());
            return Err(Failure::permanent(Kind::Internal, what));
        };
        Ok(Block { reduce, rows, cols, stored: stored.clone(), from: float.dtype() })
    }

    /// Bytes of memory that it takes: as it is stored, in fp32, for the steps, and the state.
    fn need(&self, shared: &Shared) -> u64 {
        let (statistic, rows) = (&self.reduce.statistic, self.rows.end - self.rows.start);
        let stored = self.stored.bytes.end - self.stored.bytes.start;
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
    let (shared, Block { reduce, rows, cols, stored, from }) = (reader.shared, block);
    let kind = reduce.statistic.kind;
    let turn = shared.reads.turn().await;
    let (raw, steps) = futures::try_join!(
        reader.inputs.lend(shared, stored.object, stored.bytes),
        Steps::load(reader, &reduce.statistic.steps, Extent { rows, cols })
    )?;
    turn.moved(raw.len() as u64);
    let w = Arc::new(steps).apply_to_all(reader, from, raw).await?;
    let kernels = shared.kernels;
    // The rows are reduced in order.
    shared.compute(move |_| Ok(kind.accumulate(&kernels, cols, &w))).await
}
