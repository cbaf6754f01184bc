//! Comparing two versions of a tensor, some rows at a time.

use std::ops::Range;
use std::sync::Arc;

use shardfuse_merge::base::parameter::Parameter;
use shardfuse_merge::recipe::{Span, Start};
use shardfuse_merge::{DtypeExt, Result};
use shardfuse_store::Stores;

use super::change::{Change, Compared, common};
use super::side::Side;
use super::sums::Sums;
use crate::sample::Reader;

/// Bytes of one read where bytes are compared.
const CHUNK: u64 = 4 << 20;

/// A tensor by its places in both.
#[derive(Debug)]
pub struct Pair {
    name: String,
}

/// All tensors: those of the first in its order, then those that only the second has.
pub fn pairs(before: &Side, after: &Side) -> Vec<Pair> {
    let only_after = after.parameters.iter().filter(|p| before.parameter(&p.name).is_none());
    before.parameters.iter().chain(only_after).map(|p| Pair { name: p.name.clone() }).collect()
}

/// Compares a tensor, `batch` values at a time.
pub async fn compare(stores: &Stores, sides: &[Arc<Side>; 2], pair: &Pair, batch: u64) -> Result<Change> {
    let both = [0, 1].map(|side: usize| sides[side].parameter(&pair.name));
    let stored = both.map(|p| p.map(how));
    let shape = both.map(|p| p.map(|p| p.dims.clone()));
    let not = Change::not(&pair.name, stored, shape);
    let [Some(before), Some(after)] = both else { return Ok(not) };
    let Some((rows, cols)) = common(&before.dims, &after.dims) else { return Ok(not) };
    let readers = [0, 1].map(|side: usize| Reader::over(stores, &sides[side].objects, &[]));
    let mut change = match (before.stored.start(), after.stored.start()) {
        (Ok(one), Ok(other)) => {
            let sums = values(&readers, [&one, &other], rows, cols, batch).await?;
            not.with(Compared::Values, sums)
        }
        // A quantised tensor whose values cannot be told is compared as it is stored, all of it or nothing.
        _ if before.dims == after.dims && layout(before) == layout(after) => {
            not.with(Compared::Bytes, bytes(&readers, before, after).await?)
        }
        _ => return Ok(not),
    };
    let heads = [before, after].map(|p| p.dims.first().copied().unwrap_or(1));
    change.rows_only = [heads[0].saturating_sub(heads[1]), heads[1].saturating_sub(heads[0])];
    Ok(change)
}

/// How a parameter is stored, in a word.
fn how(parameter: &Parameter) -> String {
    match parameter.stored.tensors.as_slice() {
        [one] => one.dtype.name(),
        _ => parameter.stored.scheme.name().to_owned(),
    }
}

/// What two parameters have in common whose bytes can be compared.
fn layout(parameter: &Parameter) -> Vec<(&str, String, &[u64])> {
    parameter.stored.tensors.iter().map(|t| (t.name.as_str(), t.dtype.name(), t.shape.as_slice())).collect()
}

async fn values(
    readers: &[Reader<'_>; 2],
    [one, other]: [&Start; 2],
    rows: u64,
    cols: u64,
    batch: u64,
) -> Result<Sums> {
    let mut sums = Sums::default();
    for rows in batches(rows, cols, batch) {
        let first = rows.start * cols;
        let (before, after) = futures::try_join!(readers[0].run(one, rows.clone()), readers[1].run(other, rows))?;
        sums.add(first, &before, &after);
    }
    Ok(sums)
}

/// Runs of rows of at most so many values; one row at least.
pub fn batches(rows: u64, cols: u64, most: u64) -> impl Iterator<Item = Range<u64>> {
    let each = (most / cols.max(1)).max(1);
    (0..rows).step_by(each as usize).map(move |first| first..rows.min(first + each))
}

/// Counts the elements of the stored tensors that differ.
async fn bytes(readers: &[Reader<'_>; 2], before: &Parameter, after: &Parameter) -> Result<Sums> {
    let mut sums = Sums::default();
    for (one, other) in before.stored.tensors.iter().zip(&after.stored.tensors) {
        let width = one.dtype.bytes().unwrap_or(1).max(1);
        let length = one.bytes();
        for from in (0..length).step_by((CHUNK / width * width) as usize) {
            let to = length.min(from + CHUNK / width * width);
            let span = |tensor: &shardfuse_merge::inventory::Source| Span {
                object: tensor.object,
                bytes: tensor.offset + from..tensor.offset + to,
            };
            let (have, want) = futures::try_join!(readers[0].span(span(one)), readers[1].span(span(other)))?;
            let width = width as usize;
            sums.elements += have.len().div_ceil(width) as u64;
            sums.changed +=
                have.chunks(width).zip(want.chunks(width)).filter(|(one, other)| one != other).count() as u64;
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_every_row_once_however_long_a_row_is() {
        assert_eq!(batches(5, 10, 20).collect::<Vec<_>>(), [0..2, 2..4, 4..5]);
        assert_eq!(batches(2, 100, 20).collect::<Vec<_>>(), [0..1, 1..2]);
        assert_eq!(batches(0, 10, 20).count(), 0);
    }
}
