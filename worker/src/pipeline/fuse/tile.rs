//! Tiles: whole rows that one thread computes at a time.

use std::ops::Range;

use shardfuse_merge::Dtype;
use shardfuse_merge::recipe::Start;

use super::context::Context;
use crate::Failure;
use crate::device::Slice;
use crate::pipeline::raw::Raw;
use crate::pipeline::shared::Shared;
use crate::pipeline::threads::Threads;

/// fp32 bytes of a tile: small enough for the second-level cache.
const TILE: u64 = 1 << 20;

/// Whole rows of a tile, one at least.
pub fn rows_of_a_tile(cols: u64) -> usize {
    (TILE / 4 / cols.max(1)).max(1) as usize
}

/// Bytes of memory that rows take which are decoded all at once, beside what they start from; `None` where each tile is decoded by
/// itself. A tile whose values share scales with many other rows would decode these too, and so would the next one.
pub fn at_once(start: &Start, rows: &Range<u64>) -> Option<u64> {
    let (_, cols) = start.matrix();
    let tile = rows.start..rows.end.min(rows.start + rows_of_a_tile(cols) as u64);
    let shared = start.beside(tile.clone());
    if shared <= 2 * TILE.max((tile.end - tile.start).saturating_mul(cols).saturating_mul(4)) {
        return None;
    }
    let values = (rows.end - rows.start).saturating_mul(cols).saturating_mul(4);
    Some(start.beside(rows.clone()).saturating_add(values))
}

/// The same rows with their values, where they are decoded all at once.
pub async fn ready(shared: &Shared, raw: Raw) -> Result<Raw, Failure> {
    if at_once(raw.start(), &raw.rows()).is_none() {
        return Ok(raw);
    }
    let kernels = shared.kernels;
    shared.compute(move |_: &Threads| Ok(raw.decoded(&kernels))).await
}

/// Rows of a tensor on their way from the bytes that they start from to those of the output.
#[derive(Debug)]
pub struct Tiles {
    /// What they are computed with.
    pub context: Context,
    /// The dtype of the values that go out.
    pub to: Dtype,
    /// Whether infinities that came in may stay.
    pub keep_non_finite: bool,
}

impl Tiles {
    /// Computes all rows, in parallel, into the slice of the part. `raw` is what they start from. `apply` gets the first row
    /// of a tile and its values.
    pub fn fuse(
        &self,
        threads: &Threads,
        raw: &Raw,
        mut slice: Slice,
        apply: impl Fn(u64, &mut [f32]) -> Result<(), Failure> + Sync + Send,
    ) -> Result<Vec<u8>, Failure> {
        let out_row = self.context.cols * self.to.bitsize() / 8;
        let per_tile = rows_of_a_tile(self.context.cols as u64);
        let all = raw.rows();
        let mut jobs = Vec::new();
        let mut rest = &mut slice.part[slice.target.clone()];
        let mut at = slice.skip;
        for first in all.clone().step_by(per_tile) {
            let rows = first..(first + per_tile as u64).min(all.end);
            let (begin, end) = ((rows.start - all.start) as usize * out_row, (rows.end - all.start) as usize * out_row);
            let (mine, next) = rest.split_at_mut((end - at).min(rest.len()));
            jobs.push((rows, at - begin, mine));
            at = end;
            rest = next;
        }
        threads.each(jobs, Vec::<f32>::new, |w, (rows, skip, out)| {
            let count = (rows.end - rows.start) as usize;
            if w.len() != count * self.context.cols {
                *w = vec![0.0; count * self.context.cols];
            }
            raw.decode(&self.context.kernels, rows.clone(), w);
            apply(rows.start, w)?;
            if out.len() == count * out_row {
                return self.encode(rows, raw, w, out);
            }
            let mut whole = vec![0; count * out_row];
            self.encode(rows, raw, w, &mut whole)?;
            out.copy_from_slice(&whole[skip..skip + out.len()]);
            Ok(())
        })?;
        Ok(slice.part)
    }

    /// Rounds the values of a tile to the output's dtype.
    fn encode(&self, rows: Range<u64>, raw: &Raw, w: &[f32], out: &mut [u8]) -> Result<(), Failure> {
        let Some(at) = self.context.kernels.encode(self.to, w, out) else { return Ok(()) };
        let first = rows.start;
        let bad = if self.keep_non_finite { self.made_here(rows, raw, out) } else { Some(at) };
        match bad {
            None => Ok(()),
            Some(at) => {
                let (row, col) = (at / self.context.cols, at % self.context.cols);
                Err(self.context.blame.bad_value(first + row as u64, col as u64, w[at]))
            }
        }
    }

    /// The first value that is finite where it came from and not where it went: a copy may keep the infinities that it came
    /// with, and may not make new ones.
    fn made_here(&self, rows: Range<u64>, raw: &Raw, out: &[u8]) -> Option<usize> {
        let mut before = vec![0.0; (rows.end - rows.start) as usize * self.context.cols];
        let mut after = before.clone();
        raw.decode(&self.context.kernels, rows, &mut before);
        self.context.kernels.decode(self.to, out, &mut after);
        before.iter().zip(&after).position(|(before, after)| before.is_finite() && !after.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::inventory::{ObjectId, Source};
    use shardfuse_merge::recipe::bytes;

    use super::*;

    /// A matrix in bf16 as a layer sees it whose scales are quantised themselves.
    fn seen(rows: u64, cols: u64, transposed: bool) -> Start {
        let shape = vec![rows, cols];
        let weight = Source { name: "w".into(), object: ObjectId(0), offset: 0, dtype: Dtype::BF16, shape };
        let settings = vec![0, 64, 2, u64::from(transposed), 0, rows, 0];
        bytes::read(&bytes::write(&("seen through bitsandbytes", vec![weight], settings))).unwrap()
    }

    #[test]
    fn rows_that_share_scales_with_all_others_are_decoded_once_and_counted() {
        let all = 4 * 1600 * 6400;
        assert_eq!(
            at_once(&seen(1600, 6400, true), &(0..1600)),
            Some(2 * all),
            "all values, and all that share scales"
        );
        assert_eq!(at_once(&seen(1600, 6400, true), &(7..8)), Some(all + 4 * 6400));
        assert_eq!(at_once(&seen(1600, 6400, false), &(0..1600)), None, "a tile shares a run with a few rows");
        assert_eq!(at_once(&seen(64, 640, true), &(0..64)), None, "all of it is smaller than a tile");
    }
}
