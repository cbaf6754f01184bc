//! Operands: read, upcast to fp32, laid out for the kernels. Right factors are kept while neighbouring parts need them.
//!
//! A right factor [rank, cols] serves every row of a tensor and is kept. Of everything else only what a part needs is read.
//! Right factors larger than the share for loading are not kept whole: they are read by ranges of columns, once for each
//! part.

use std::ops::Range;
use std::sync::Arc;

use shardfuse_merge::inventory::Source;
use shardfuse_merge::recipe::{Delta, Input, Need, Operand};
use shardfuse_merge::tensor::View;
use shardfuse_merge::{DtypeExt, Kind};

use super::Shared;
use super::cache::Cache;
use super::coalesce::{GAP, MOST};
use super::inputs::{AT_A_TIME, Inputs, Version};
use crate::Failure;
use crate::device::cpu::{Kernels, Packed};

/// A factor in its object: where the tensor begins, the view of it, and what its rows are multiplied with.
pub type Key = (Version, u64, View, Option<(Version, u64)>);
/// Packed right factors.
pub type Factors = Cache<Key, Ready>;

/// A right factor as the kernels take it.
#[derive(Debug)]
pub struct Ready {
    /// The values.
    pub packed: Packed,
    /// Whether all of them are zero.
    pub zero: bool,
}

/// The rights of a delta: the sum of their ranks.
fn ranks(delta: &Delta) -> u64 {
    let rights = delta.inputs().into_iter().filter(|input| input.need == Need::SameColumns);
    rights.map(|input| input.operand.view.rows).sum()
}

/// The width of the ranges of columns in which a delta's right factors are read, with `loading` bytes for loading them;
/// `None` if they are kept whole. Laying one out takes as much again beside the place it is kept in.
pub fn range_width(delta: &Delta, cols: u64, loading: u64) -> Option<u64> {
    let ranks = ranks(delta);
    if 4 * ranks * cols <= loading {
        return None;
    }
    // Raw, decoded and packed values of two ranges fit at a time.
    let width = loading / (16 * ranks) / 64 * 64;
    Some(width.max(64).min(cols))
}

/// Bytes of memory that a part of `rows` rows holds of an input: what is read, while it is read and laid out. Right factors
/// count where they are kept `whole`.
pub fn held(input: &Input<'_>, rows: u64, cols: u64, whole: bool) -> u64 {
    let view = input.operand.view;
    match input.need {
        Need::SameRows => {
            // Rows that are stored as columns are read with what lies between them.
            let stored = view.elements() * input.operand.source.dtype.bytes().unwrap_or(4);
            let between = if view.col_stride == 1 { 0 } else { stored.min(AT_A_TIME as u64 * MOST) };
            rows * view.cols * 12 + between
        }
        Need::SameColumns if whole => 4 * view.elements(),
        Need::SameColumns => 0,
        Need::Same => rows * cols * 8,
        Need::Rows(list) => (list.len() as u64).min(rows) * cols * 8,
        Need::PerRow => rows * 8,
        Need::PerColumn => cols * 8,
        Need::Derived(_) => cols * 20,
    }
}

/// A right factor that is kept whole.
pub async fn right(shared: &Shared, inputs: &Inputs, operand: &Operand) -> Result<Arc<Ready>, Failure> {
    let gains = match &operand.row_gains {
        Some(gains) => Some((inputs.version(gains.object)?, gains.offset)),
        None => None,
    };
    let key = (inputs.version(operand.source.object)?, operand.source.offset, operand.view, gains);
    let bytes = 4 * operand.view.elements();
    let load = async {
        let _share = shared.loading.take(bytes).await;
        packed(shared, inputs, operand, 0..operand.view.cols).await
    };
    shared.factors.get(key, bytes, load).await
}

/// Columns of all right factors of a delta, packed, in the order of its inputs, with the share that covers them.
pub async fn right_ranges(
    shared: &Shared,
    inputs: &Inputs,
    delta: &Delta,
    columns: Range<u64>,
) -> Result<(Vec<Ready>, super::budget::Share), Failure> {
    let share = shared.loading.take(8 * ranks(delta) * (columns.end - columns.start)).await;
    let mut all = Vec::new();
    for input in delta.inputs().into_iter().filter(|input| input.need == Need::SameColumns) {
        let ready = packed(shared, inputs, input.operand, columns.clone()).await;
        all.push(ready.map_err(|f| f.at(&input.operand.source.name))?);
    }
    Ok((all, share))
}

async fn packed(shared: &Shared, inputs: &Inputs, operand: &Operand, columns: Range<u64>) -> Result<Ready, Failure> {
    let view = operand.view.columns(columns);
    let values = values(shared, inputs, operand, view, 0..view.rows).await?;
    let kernels = shared.kernels;
    let pack = move |_: &super::threads::Threads| {
        let (rank, cols) = (view.rows as usize, view.cols as usize);
        Ok(Ready { zero: kernels.all_zero(&values), packed: kernels.pack(&values, rank, cols) })
    };
    shared.compute(pack).await
}

/// Rows of an operand, row-major.
pub async fn rows(shared: &Shared, inputs: &Inputs, operand: &Operand, rows: Range<u64>) -> Result<Vec<f32>, Failure> {
    values(shared, inputs, operand, operand.view.rows(rows.clone()), rows).await
}

/// Single rows of an operand, behind one another in the order given.
pub async fn listed(shared: &Shared, inputs: &Inputs, operand: &Operand, list: &[u64]) -> Result<Vec<f32>, Failure> {
    let views: Vec<View> = list.iter().map(|row| operand.view.rows(*row..*row + 1)).collect();
    let mut values = stored(shared, inputs, &operand.source, &views).await?;
    if let Some(gains) = &operand.row_gains {
        let gains = stored(shared, inputs, gains, &[View::vector(gains.elements())]).await?;
        let of_row = |row: &u64| gains[*row as usize];
        multiply_rows(&mut values, operand.view.cols, list.iter().map(of_row));
    }
    Ok(values)
}

/// A view of an operand, row-major: its rows `rows`, multiplied by their gains.
async fn values(
    shared: &Shared,
    inputs: &Inputs,
    operand: &Operand,
    view: View,
    rows: Range<u64>,
) -> Result<Vec<f32>, Failure> {
    let mut values = stored(shared, inputs, &operand.source, &[view]).await?;
    if let Some(gains) = &operand.row_gains {
        let gains = stored(shared, inputs, gains, &[View::vector(gains.elements()).rows(rows)]).await?;
        multiply_rows(&mut values, view.cols, gains.into_iter());
    }
    Ok(values)
}

fn multiply_rows(values: &mut [f32], cols: u64, gains: impl Iterator<Item = f32>) {
    for (row, gain) in values.chunks_exact_mut(cols as usize).zip(gains) {
        row.iter_mut().for_each(|v| *v *= gain);
    }
}

/// Views of a stored tensor in fp32, each row-major, behind one another.
async fn stored(shared: &Shared, inputs: &Inputs, source: &Source, views: &[View]) -> Result<Vec<f32>, Failure> {
    let size = source.dtype.bytes().unwrap_or(0);
    let ranges: Vec<Range<u64>> = views.iter().flat_map(View::ranges).collect();
    let longest = ranges.iter().map(|r| r.end - r.start).max().unwrap_or(0);
    let bytes: Vec<_> = ranges.iter().map(|r| source.offset + r.start * size..source.offset + r.end * size).collect();
    // What is read in vain stays in proportion to what is needed.
    let raw = inputs.read_ranges(shared, source.object, &bytes, GAP.min(4 * longest * size)).await?;
    let (kernels, source, budget) = (shared.kernels, source.clone(), shared.budget.clone());
    let (object, views) = (inputs.version(source.object)?, views.to_vec());
    shared
        .compute(move |_| {
            let read = decode(&kernels, &source, &object, &raw)?;
            // Each form goes before the next but one is made.
            budget.give(raw);
            if let [view] = views[..] {
                return Ok(view.gather(read));
            }
            let mut rest = read.as_slice();
            let mut all = Vec::with_capacity(views.iter().map(|v| v.elements() as usize).sum());
            for view in &views {
                let length = view.ranges().iter().map(|r| (r.end - r.start) as usize).sum();
                let (mine, next) = rest.split_at(length);
                all.extend(view.gather(mine.to_vec()));
                rest = next;
            }
            Ok(all)
        })
        .await
}

/// Upcasts adapter values, which must be finite.
pub fn decode(kernels: &Kernels, source: &Source, object: &Version, raw: &[u8]) -> Result<Vec<f32>, Failure> {
    let size = source.dtype.bytes().unwrap_or(1) as usize;
    let mut values = vec![0.0; raw.len() / size];
    kernels.decode(source.dtype, raw, &mut values);
    if kernels.all_finite(&values) {
        return Ok(values);
    }
    let what =
        values.iter().find(|v| !v.is_finite()).map_or("a value", |v| if v.is_nan() { "NaN" } else { "infinity" });
    Err(Failure::permanent(Kind::NonFinite, format!("{object}: holds {what}"))
        .hint("the training diverged, or the file is damaged"))
}
