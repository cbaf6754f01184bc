//! One part of an output file: planned, fetched, fused, and put.
//!
//! Fetching comes first, in the part's turn ([`super::flow`]) and all of it at the same time: the start of the file, the
//! base's rows (small neighbours in one read), and what the steps need. Then the tensors are fused one after another, each
//! on all threads. Other parts fetch, fuse and put meanwhile, as many as the budget holds.

use std::time::Instant;

use bytes::Bytes;
use shardfuse_merge::plan::task::{Fill, Part};
use shardfuse_proto::v1;
use shardfuse_store::PartSlot;

use super::copies;
use super::fetch::{self, Beside, Fetched};
use super::fuse::{Fuser, Seen, by_adapter};
use super::part_plan::{Make, PartPlan};
use super::put::put;
use super::raw::Raw;
use super::read::Reader;
use super::shared::{Shared, Stage};
use super::stages::{At, Way};
use crate::Failure;
use crate::device::Slice;
use crate::work::{Done, Gate};

/// Makes and puts a part once its memory is there.
pub async fn make(reader: Reader<'_>, fill: &Fill, part: &Part, gate: &Gate) -> Result<Done, Failure> {
    let plan = PartPlan::new(fill, part)?;
    let mut way = Way::begin(&reader.shared.stages);
    if let PartPlan::Copy(copy) = &plan
        && fill.copied
        && !fill.check
    {
        gate.passed().await;
        if let Some(receipt) = copies::by_the_store(reader, fill, part, copy, &mut way).await? {
            return Ok(done(part, receipt, Seen::default(), &mut way));
        }
    }
    let name = format!("part {} of {}", part.number, fill.url);
    let fusers = fusers(reader.shared, &plan);
    let _share = reader.shared.admit(gate, need(reader.shared, &plan, &fusers), &name).await?;
    let (bytes, seen) = match &plan {
        PartPlan::Copy(copy) => (fetch::copy(reader, copy, &mut way).await?, Seen::default()),
        PartPlan::Make(make) => {
            let fetched = fetch::make(reader, fill, make, &fusers, &mut way).await?;
            way.enter(At::Fusing);
            let (bytes, seen) = fuse(reader, make, fetched).await?;
            (reader.shared.budget.lend(bytes), seen)
        }
    };
    let slot = PartSlot { number: part.number, offset: part.bytes.start };
    way.enter(At::Held);
    let receipt = put(reader, fill, slot, bytes, &mut way).await?;
    Ok(done(part, receipt, seen, &mut way))
}

/// The report of a finished part.
fn done(part: &Part, receipt: v1::PartReceipt, seen: Seen, way: &mut Way<'_>) -> Done {
    let (zero, live): (Vec<_>, Vec<_>) = seen.factors.into_iter().partition(|(_, zero)| *zero);
    let names = |list: Vec<(String, bool)>| list.into_iter().map(|(name, _)| name).collect();
    let effects = by_adapter(seen.effects).into_iter().map(|effect| v1::Effect {
        adapter: effect.adapter.into(),
        moved: effect.moved,
        zero: effect.zero,
        largest: effect.largest,
    });
    Done {
        attempt: None,
        piece: part.number,
        result: Some(v1::piece_done::Result::Part(receipt)),
        zero_factors: names(zero),
        live_factors: names(live),
        effects: Some(v1::Effects { effects: effects.collect() }),
        times: Some(way.times()),
    }
}

/// For each piece what computes it; `None` where its bytes are copied.
fn fusers(shared: &Shared, plan: &PartPlan<'_>) -> Vec<Option<Fuser>> {
    let pieces = match plan {
        PartPlan::Copy(_) => &[][..],
        PartPlan::Make(make) => &make.pieces,
    };
    pieces.iter().map(|piece| Some(Fuser::of(shared, piece.placed, piece.rows.as_ref()?))).collect()
}

/// Bytes of memory that a part takes while it is made.
fn need(shared: &Shared, plan: &PartPlan<'_>, fusers: &[Option<Fuser>]) -> u64 {
    match plan {
        PartPlan::Copy(copy) => copy.read.range.end - copy.read.range.start,
        PartPlan::Make(make) => {
            let fused = make.pieces.iter().zip(fusers).filter_map(|(piece, fuser)| {
                let (rows, fuser) = (piece.rows.as_ref()?, fuser.as_ref()?);
                Some(fuser.need(shared, rows))
            });
            fused.fold(make.bytes(), u64::saturating_add)
        }
    }
}

/// Computes or copies every piece into the part.
async fn fuse(reader: Reader<'_>, make: &Make<'_>, fetched: Fetched) -> Result<(Vec<u8>, Seen), Failure> {
    let began = Instant::now();
    let Fetched { header, reads, loaded } = fetched;
    let mut part = reader.shared.budget.buffer(make.length);
    part[..header.len()].copy_from_slice(&header);
    let mut seen = Seen::default();
    for (piece, loaded) in make.pieces.iter().zip(loaded) {
        let raw: Vec<Bytes> = piece.from.iter().map(|from| reads[from.read].slice(from.range.clone())).collect();
        let target = piece.target.clone();
        match (&piece.rows, loaded) {
            (Some(rows), Some(Beside { steps, statistic })) => {
                let raw = Raw::new(&rows.fuse.start, rows.rows.clone(), raw).with(statistic);
                let slice = Slice { part, target, skip: rows.skip };
                let of_rows;
                (part, of_rows) = steps.fuse(reader, piece.placed, rows, raw, slice).await?;
                seen.append(of_rows);
            }
            _ => raw.iter().for_each(|copied| part[target.clone()].copy_from_slice(copied)),
        }
    }
    reader.shared.took(Stage::Fuse, began);
    Ok((part, seen))
}
