//! Tiles: whole rows that one thread computes at a time.

use std::ops::Range;

use shardfuse_merge::Dtype;

use super::blame::Blame;
use crate::Failure;
use crate::device::Slice;
use crate::device::cpu::Kernels;
use crate::pipeline::raw::Raw;
use crate::pipeline::threads::Threads;

/// fp32 bytes of a tile: small enough for the second-level cache.
const TILE: u64 = 1 << 20;

/// Whole rows of a tile, one at least.
pub fn rows_of_a_tile(cols: u64) -> usize {
    (TILE / 4 / cols.max(1)).max(1) as usize
}

/// Rows of a tensor on their way from the bytes that they start from to those of the output.
#[derive(Debug)]
pub struct Tiles {
    /// What computes.
    pub kernels: Kernels,
    /// What a failure names.
    pub blame: Blame,
    /// The dtype of the values that go out.
    pub to: Dtype,
    /// Columns of the tensor.
    pub cols: usize,
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
        let out_row = self.cols * self.to.bitsize() / 8;
        let per_tile = rows_of_a_tile(self.cols as u64);
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
            w.resize(count * self.cols, 0.0);
            raw.decode(&self.kernels, rows.clone(), w);
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
        let Some(at) = self.kernels.encode(self.to, w, out) else { return Ok(()) };
        let first = rows.start;
        let bad = if self.keep_non_finite { self.made_here(rows, raw, out) } else { Some(at) };
        match bad {
            None => Ok(()),
            Some(at) => {
                let (row, col) = (at / self.cols, at % self.cols);
                Err(self.blame.bad_value(first + row as u64, col as u64, w[at]))
            }
        }
    }

    /// The first value that is finite where it came from and not where it went: a copy may keep the infinities that it came
    /// with, and may not make new ones.
    fn made_here(&self, rows: Range<u64>, raw: &Raw, out: &[u8]) -> Option<usize> {
        let mut before = vec![0.0; (rows.end - rows.start) as usize * self.cols];
        let mut after = before.clone();
        raw.decode(&self.kernels, rows, &mut before);
        self.kernels.decode(self.to, out, &mut after);
        before.iter().zip(&after).position(|(before, after)| before.is_finite() && !after.is_finite())
    }
}
