//! Codes and scales of computed values, on this machine's CPU.
//!
//! Rows are taken together in waves that fit into a bounded amount of memory: a unit of a scheme may be as large as an expert.
//! In a wave values are computed tile by tile, and then encoded unit by unit.

use std::ops::Range;

use shardfuse_merge::Kind;
use shardfuse_merge::base::scheme::claim::Whole;
use shardfuse_merge::base::scheme::recode::{Recoder, Rows};
use shardfuse_merge::recipe::Requantise;
use shardfuse_merge::tensor::float::Float;

use super::context::Context;
use super::tile::rows_of_a_tile;
use crate::Failure;
use crate::device::Slice;
use crate::pipeline::raw::Raw;
use crate::pipeline::threads::Threads;

/// Bytes of fp32 of a wave. A larger unit is a wave.
const WAVE: u64 = 32 << 20;

/// Bytes that rows make, with their places in the tensor.
type Made = (Range<u64>, Vec<u8>);

/// Bytes of memory that rows take beside what they start from and what they become: the values of a wave as they are stored and as
/// they are to be, and as much once more for what is encoded and for what tiles take.
pub fn need(requantise: &Requantise, rows: &Range<u64>, cols: u64) -> u64 {
    let wave = requantise.recoder().map_or(rows.end - rows.start, |recoder| recoder.rows_of(WAVE));
    wave.min(rows.end - rows.start).saturating_mul(cols.saturating_mul(12))
}

/// Rows of a parameter on their way from the bytes that they start from to codes or scales.
#[derive(Debug)]
pub struct Recode {
    /// What they are computed with.
    pub context: Context,
    /// What is made.
    pub requantise: Requantise,
    /// What is known of all rows, where one scale serves them.
    pub whole: Option<Whole>,
}

impl Recode {
    /// Computes and encodes all rows, in parallel, into the slice of the part. `raw` is what they start from. `apply` gets the
    /// first row of a tile and its values.
    pub fn fuse(
        &self,
        threads: &Threads,
        raw: &Raw,
        mut slice: Slice,
        apply: impl Fn(u64, &mut [f32]) -> Result<(), Failure> + Sync + Send,
    ) -> Result<Vec<u8>, Failure> {
        let recoder = self.requantise.recoder().map_err(|why| Failure::permanent(Kind::Internal, why))?;
        let (place, all) = (self.requantise.place(), raw.rows());
        // Where the part begins and ends among the tensor's bytes.
        let begin = recoder.bytes_of(place, &all).start + slice.skip as u64;
        let wanted = begin..begin + slice.target.len() as u64;
        let wave = recoder.rows_of(WAVE);
        let mut first = all.start;
        while first < all.end {
            let rows = first..all.end.min(first + wave);
            first = rows.end;
            let (before, after) = self.values(threads, raw, &rows, &apply)?;
            for (bytes, made) in self.encode(threads, &recoder, raw, &rows, [&before, &after])? {
                let (from, to) = (bytes.start.max(wanted.start), bytes.end.min(wanted.end));
                if from < to {
                    let target = &mut slice.part[slice.target.clone()];
                    target[(from - wanted.start) as usize..(to - wanted.start) as usize]
                        .copy_from_slice(&made[(from - bytes.start) as usize..(to - bytes.start) as usize]);
                }
            }
        }
        Ok(slice.part)
    }

    /// The values of rows as they are stored, and as they are to be.
    fn values(
        &self,
        threads: &Threads,
        raw: &Raw,
        rows: &Range<u64>,
        apply: impl Fn(u64, &mut [f32]) -> Result<(), Failure> + Sync + Send,
    ) -> Result<(Vec<f32>, Vec<f32>), Failure> {
        let mut before = vec![0.0; (rows.end - rows.start) as usize * self.context.cols];
        let mut after = before.clone();
        let height = rows_of_a_tile(self.context.cols as u64);
        let tiles =
            before.chunks_mut(height * self.context.cols).zip(after.chunks_mut(height * self.context.cols)).enumerate();
        threads.each(
            tiles.collect(),
            || (),
            |(), (i, (before, after))| {
                let first = rows.start + (i * height) as u64;
                raw.decode(&self.context.kernels, first..first + (before.len() / self.context.cols) as u64, before);
                after.copy_from_slice(before);
                apply(first, after)?;
                match after.iter().position(|value| !value.is_finite()) {
                    None => Ok(()),
                    Some(at) => {
                        let (row, col) = (first + (at / self.context.cols) as u64, (at % self.context.cols) as u64);
                        Err(self.context.blame.bad_value(row, col, after[at]))
                    }
                }
            },
        )?;
        Ok((before, after))
    }

    /// The bytes that rows make, with their places in the tensor.
    fn encode(
        &self,
        threads: &Threads,
        recoder: &Recoder<'_>,
        raw: &Raw,
        rows: &Range<u64>,
        [before, after]: [&[f32]; 2],
    ) -> Result<Vec<Made>, Failure> {
        let step = recoder.rows_of_a_tile();
        let runs: Vec<Range<u64>> =
            (rows.start..rows.end).step_by(step as usize).map(|first| first..rows.end.min(first + step)).collect();
        let mut made: Vec<Made> = vec![(0..0, Vec::new()); runs.len()];
        let floats =
            |float: Float, bytes: &[u8], out: &mut [f32]| self.context.kernels.decode(float.dtype(), bytes, out);
        let place = self.requantise.place();
        threads.each(
            runs.into_iter().zip(&mut made).collect(),
            || (),
            |(), (run, made)| {
                let values = (run.start - rows.start) as usize * self.context.cols
                    ..(run.end - rows.start) as usize * self.context.cols;
                let stored = raw.stored(run.clone());
                let (before, after, whole) = (&before[values.clone()], &after[values], self.whole);
                let [codes, scales] =
                    recoder.encode(&Rows { rows: &run, before, after, stored: &stored, whole }, &floats);
                *made = (recoder.bytes_of(place, &run), if place == 0 { codes } else { scales });
                Ok(())
            },
        )?;
        Ok(made)
    }
}
