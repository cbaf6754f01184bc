//! One block of a statistic: its rows, fetched, stepped and reduced.

use std::ops::Range;
use std::sync::Arc;

use futures::future::try_join_all;
use shardfuse_merge::Kind as ErrorKind;
use shardfuse_merge::plan::task::Reduce;
use shardfuse_merge::recipe::Span;
use shardfuse_merge::statistic::{self, Kind};
use shardfuse_merge::tensor::float::Float;
use shardfuse_proto::v1;

use super::fuse::{Extent, Steps, at_once, held};
use super::raw::Raw;
use super::read::Reader;
use super::shared::Shared;
use super::stages::{At, Way};
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
        let (start, block_rows) = (&reduce.statistic.start, reduce.statistic.block_rows());
        let (height, cols) = start.matrix();
        let first = u64::from(block) * block_rows;
        if first >= height {
            return Err(Failure::local(format!("block {block} lies behind the {height} rows of {}", start.name())));
        }
        let rows = first..(first + block_rows).min(height);
        let stored = start.ranges(rows.clone());
        Ok(Block { reduce, rows, cols, stored })
    }

    /// Bytes of memory that it takes: as it is stored, in fp32, for the steps, and the state. Where it is encoded again, also its
    /// values as they are stored and as they come out.
    fn need(&self, shared: &Shared) -> u64 {
        let (statistic, rows) = (&self.reduce.statistic, self.rows.end - self.rows.start);
        let stored: u64 = self.stored.iter().map(|span| span.bytes.end - span.bytes.start).sum();
        let times = if statistic.kind.wants_before() { 3 } else { 1 };
        stored
            .saturating_mul(if statistic.kind.wants_before() { 2 } else { 1 })
            .saturating_add(rows.saturating_mul(self.cols.saturating_mul(4 * times)))
            .saturating_add(held(&statistic.steps, rows, self.cols, shared.loading.bytes()))
            .saturating_add(at_once(&statistic.start, &self.rows).unwrap_or(0))
            .saturating_add(statistic.bytes())
    }
}

/// Makes a block once its memory is there.
pub async fn make(reader: Reader<'_>, reduce: &Reduce, block: u32, gate: &Gate) -> Result<Done, Failure> {
    let name = format!("block {block} of the statistic of {}", reduce.statistic.tensor);
    let plan = Block::new(reduce, block)?;
    let mut way = Way::begin(&reader.shared.stages);
    let _share = reader.shared.admit(gate, plan.need(reader.shared), &name).await?;
    let bytes =
        state(reader, plan, &mut way).await.map_err(|f| f.at(format_args!("tensor {}", reduce.statistic.tensor)))?;
    reader.inputs.meter().fused(bytes.len() as u64);
    let result = Some(v1::piece_done::Result::Sums(bytes));
    Ok(Done { piece: block, result, times: Some(way.times()), ..Done::default() })
}

/// The state of a block.
async fn state(reader: Reader<'_>, block: Block<'_>, way: &mut Way<'_>) -> Result<Vec<u8>, Failure> {
    let (shared, Block { reduce, rows, cols, stored }) = (reader.shared, block);
    let statistic = &reduce.statistic;
    let kind = statistic.kind;
    let turn = shared.reads.turn().await;
    way.enter(At::Fetching);
    let reads = stored.into_iter().map(|span| reader.inputs.lend(shared, span.object, span.bytes));
    let whole = async {
        match kind {
            Kind::Survival { range: Some(id), .. } => reader.whole(id).await.map(Some),
            _ => Ok(None),
        }
    };
    let (read, steps, whole, of_start) = futures::try_join!(
        try_join_all(reads),
        Steps::load(reader, &statistic.steps, Extent { rows: rows.clone(), cols }),
        whole,
        reader.of_start(&statistic.start)
    )?;
    let raw = Raw::new(&statistic.start, rows.clone(), read).with(of_start);
    turn.moved(raw.bytes());
    way.enter(At::Fusing);
    let after = Arc::new(steps).apply_to_all(reader, raw.clone()).await?;
    let (kernels, start) = (shared.kernels, statistic.start.clone());
    // The rows are reduced in order.
    let reduce = move |_: &_| {
        let floats = |float: Float, bytes: &[u8], out: &mut [f32]| kernels.decode(float.dtype(), bytes, out);
        let mut block = statistic::Block { rows: rows.clone(), after: &after, before: &[], stored: &[], whole };
        if !kind.wants_before() {
            return Ok(kind.accumulate(&kernels, &floats, &start, &block));
        }
        // What is not finite has no codes.
        if let Some(at) = after.iter().position(|value| !value.is_finite()) {
            let (row, col, value) = (rows.start + at as u64 / cols, at as u64 % cols, after[at]);
            let what = format!("row {row}, column {col}: the result is {value}");
            return Err(Failure::permanent(ErrorKind::NonFinite, what));
        }
        let mut before = vec![0.0; after.len()];
        raw.decode(&kernels, rows.clone(), &mut before);
        let stored = raw.stored(rows);
        (block.before, block.stored) = (&before, &stored);
        Ok(kind.accumulate(&kernels, &floats, &start, &block))
    };
    shared.compute(reduce).await
}
