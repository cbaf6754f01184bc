//! Tiles: whole rows that one thread computes at a time.

use bytes::Bytes;
use shardfuse_merge::Dtype;

use super::blame::Blame;
use crate::Failure;
use crate::device::Slice;
use crate::device::cpu::Kernels;
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
    /// The dtype of the values that come in.
    pub from: Dtype,
    /// The dtype of those that go out.
    pub to: Dtype,
    /// Columns of the tensor.
    pub cols: usize,
    /// Whether infinities that came in may stay.
    pub keep_non_finite: bool,
    /// The first row.
    pub first: u64,
}

impl Tiles {
    /// Computes all rows, in parallel, into the slice of the part. `raw` is what they start from. `apply` gets the first row
    /// of a tile and its values.
    pub fn fuse(
        &self,
        threads: &Threads,
        raw: &Bytes,
        mut slice: Slice,
        apply: impl Fn(u64, &mut [f32]) -> Result<(), Failure> + Sync + Send,
    ) -> Result<Vec<u8>, Failure> {
        let in_row = self.cols * self.from.bitsize() / 8;
        let out_row = self.cols * self.to.bitsize() / 8;
        let per_tile = rows_of_a_tile(self.cols as u64);
        let mut jobs = Vec::new();
        let mut rest = &mut slice.part[slice.target.clone()];
        let mut at = slice.skip;
        for (i, raw) in raw.chunks(per_tile * in_row).enumerate() {
            let end = (i * per_tile * out_row) + raw.len() / in_row * out_row;
            let (mine, next) = rest.split_at_mut((end - at).min(rest.len()));
            jobs.push((i, raw, at - i * per_tile * out_row, mine));
            at = end;
            rest = next;
        }
        threads.each(jobs, Vec::<f32>::new, |w, (i, raw, skip, out)| {
            let first = self.first + (i * per_tile) as u64;
            let rows = raw.len() / in_row;
            w.resize(rows * self.cols, 0.0);
            self.kernels.decode(self.from, raw, w);
            apply(first, w)?;
            if out.len() == rows * out_row {
                return self.encode(first, raw, w, out);
            }
            let mut whole = vec![0; rows * out_row];
            self.encode(first, raw, w, &mut whole)?;
            out.copy_from_slice(&whole[skip..skip + out.len()]);
            Ok(())
        })?;
        Ok(slice.part)
    }

    /// Rounds the values of a tile, from row `first` on, to the output's dtype.
    fn encode(&self, first: u64, raw: &[u8], w: &[f32], out: &mut [u8]) -> Result<(), Failure> {
        let Some(at) = self.kernels.encode(self.to, w, out) else { return Ok(()) };
        let bad = if self.keep_non_finite { self.made_here(raw, out) } else { Some(at) };
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
    fn made_here(&self, raw: &[u8], out: &[u8]) -> Option<usize> {
        let decoded = |dtype: Dtype, bytes: &[u8]| {
            let mut values = vec![0.0; bytes.len() / (dtype.bitsize() / 8)];
            self.kernels.decode(dtype, bytes, &mut values);
            values
        };
        let (before, after) = (decoded(self.from, raw), decoded(self.to, out));
        before.iter().zip(&after).position(|(before, after)| before.is_finite() && !after.is_finite())
    }
}
