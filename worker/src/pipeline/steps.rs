//! A recipe's steps with everything loaded that rows `range` need, and their application to a tile of rows.

use std::ops::Range;
use std::sync::Arc;

use shardfuse_merge::fuse::norm::dora_gain;
use shardfuse_merge::inventory::Source;
use shardfuse_merge::recipe::{DoraNorm, LowRank, Norm, Op, Step};
use shardfuse_merge::{DtypeExt, Kind};

use super::Shared;
use super::factors::{self, Right};
use super::inputs::Inputs;
use super::measured::Norms;
use super::threads::Threads;
use crate::Failure;
use crate::device::cpu::Kernels;

/// A low-rank delta, loaded for a range of rows.
#[derive(Debug)]
pub struct Delta {
    spec: LowRank,
    left: Vec<f32>,
    right: Right,
}

#[derive(Debug)]
enum Gain {
    /// Magnitudes of the loaded rows; the norm is taken of each row.
    Rows(Vec<f32>),
    /// m / n of every column.
    Columns(Arc<Vec<f32>>),
}

#[derive(Debug)]
enum Loaded {
    Add(Delta),
    Dora { delta: Delta, gain: Gain, original: bool, name: String },
    AddScaled { values: Vec<f32>, scale: f32 },
    SetRows { rows: Vec<(u64, usize)>, values: Vec<f32> },
}

/// A recipe's steps, loaded for the rows `range`.
#[derive(Debug)]
pub struct Steps {
    steps: Vec<Loaded>,
    /// The loaded rows.
    pub range: Range<u64>,
    /// Columns of the tensor.
    pub cols: u64,
    /// Left factors of which the loaded rows are all zero, and those of which they are not.
    pub seen: Vec<(String, bool)>,
}

/// The tensor that steps are loaded for.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rows of the whole tensor.
    pub rows: u64,
    /// Its columns.
    pub cols: u64,
}

/// Bytes of memory that steps hold for `rows` rows of a tensor, about, with `loading` bytes for loading factors.
pub fn held(steps: &[Step], rows: u64, extent: Extent, loading: u64) -> u64 {
    let cols = extent.cols;
    let own = steps.iter().map(|s| match &s.op {
        Op::Add(d) => factors::held(d, rows, cols, extent.rows, loading),
        Op::Dora { delta, norm, .. } => {
            let gain = match norm {
                Norm::Rows => rows * 8,
                Norm::Measured(_) => cols * 20,
            };
            gain + factors::held(delta, rows, cols, extent.rows, loading)
        }
        Op::AddScaled { .. } => rows * cols * 8,
        Op::SetRows { rows: set, .. } => (set.len() as u64).min(rows) * cols * 8,
    });
    let own: u64 = own.sum();
    let by_ranges = steps.iter().filter_map(|s| s.op.delta()).any(|d| !factors::is_whole(d, cols, loading));
    if !by_ranges {
        return own;
    }
    // All rows at hand in fp32, and three times more where the original is kept beside: it, its sum, its rows' norms.
    let original = steps.iter().any(|s| matches!(s.op, Op::Dora { norm: Norm::Rows, of: DoraNorm::Original, .. }));
    own + rows * cols * 4 * if original { 4 } else { 1 }
}

/// Loads what the steps need for rows `range`, all at the same time.
pub async fn load(
    shared: &Shared,
    inputs: &Inputs,
    steps: &[Step],
    extent: Extent,
    range: Range<u64>,
    norms: &Norms,
) -> Result<Steps, Failure> {
    let loads = steps.iter().map(|step| load_step(shared, inputs, step, extent, range.clone(), norms));
    let mut loaded = Vec::with_capacity(steps.len());
    let mut seen = Vec::new();
    for (step, mut of_step) in futures::future::try_join_all(loads).await? {
        loaded.push(step);
        seen.append(&mut of_step);
    }
    Ok(Steps { steps: loaded, range, cols: extent.cols, seen })
}

/// Factors that a step read, and whether what it read is all zero.
type Seen = Vec<(String, bool)>;

async fn load_step(
    shared: &Shared,
    inputs: &Inputs,
    step: &Step,
    extent: Extent,
    range: Range<u64>,
    norms: &Norms,
) -> Result<(Loaded, Seen), Failure> {
    let blame = |source: &Source| {
        let place = format!("adapter {}, {}", step.adapter + 1, source.name);
        move |f: Failure| f.at(&place)
    };
    let delta = async |spec: &LowRank| {
        let left = async {
            factors::left(shared, inputs, spec, extent.rows, range.clone()).await.map_err(blame(&spec.left.source))
        };
        let right =
            async { factors::right(shared, inputs, spec, extent.cols).await.map_err(blame(&spec.right.source)) };
        let (left, right) = futures::try_join!(left, right)?;
        let mut seen = vec![(spec.left.source.name.clone(), shared.kernels.all_zero(&left))];
        if let Right::Whole(ready) = &right {
            seen.push((spec.right.source.name.clone(), ready.zero));
        }
        Ok::<_, Failure>((Delta { spec: spec.clone(), left, right }, seen))
    };
    match &step.op {
        Op::Add(spec) => delta(spec).await.map(|(delta, seen)| (Loaded::Add(delta), seen)),
        Op::Dora { delta: spec, magnitude, norm, of } => {
            let gain = async {
                match norm {
                    Norm::Rows => vector(shared, inputs, magnitude, range.clone()).await.map(Gain::Rows),
                    Norm::Measured(id) => {
                        norms.gains(shared, inputs, *id, magnitude, extent.cols).await.map(Gain::Columns)
                    }
                }
                .map_err(blame(magnitude))
            };
            let ((delta, seen), gain) = futures::try_join!(delta(spec), gain)?;
            let original = *of == DoraNorm::Original && matches!(norm, Norm::Rows);
            Ok((Loaded::Dora { delta, gain, original, name: magnitude.name.clone() }, seen))
        }
        Op::AddScaled { source, scale } => {
            let values = factors::matrix_rows(shared, inputs, source, std::slice::from_ref(&range))
                .await
                .map_err(blame(source))?;
            Ok((Loaded::AddScaled { values, scale: *scale }, Vec::new()))
        }
        Op::SetRows { rows, source } => {
            let within: Vec<(u64, u64)> =
                (0..).zip(rows).filter(|(_, r)| range.contains(r)).map(|(i, r)| (i, *r)).collect();
            let from: Vec<Range<u64>> = within.iter().map(|(i, _)| *i..*i + 1).collect();
            let values = factors::matrix_rows(shared, inputs, source, &from).await.map_err(blame(source))?;
            let rows = within.iter().enumerate().map(|(at, (_, row))| (*row, at)).collect();
            Ok((Loaded::SetRows { rows, values }, Vec::new()))
        }
    }
}

/// Elements `range` of an adapter vector, whatever its shape.
pub async fn vector(shared: &Shared, inputs: &Inputs, source: &Source, range: Range<u64>) -> Result<Vec<f32>, Failure> {
    let size = source.dtype.bytes().unwrap_or(0);
    let buf = vec![0; ((range.end - range.start) * size) as usize];
    let raw = inputs.read(source.object, source.offset + range.start * size, buf).await?;
    factors::decode(&shared.kernels, source, &inputs.version(source.object)?, &raw)
}

impl Steps {
    /// Whether every right factor is in memory, so that tiles can be fused without reading.
    pub fn in_memory(&self) -> bool {
        self.steps.iter().all(|s| {
            !matches!(
                s,
                Loaded::Add(Delta { right: Right::Ranges(_), .. })
                    | Loaded::Dora { delta: Delta { right: Right::Ranges(_), .. }, .. }
            )
        })
    }

    /// Whether a step needs the start beside the weight that stands.
    pub fn needs_start(&self) -> bool {
        self.steps.iter().any(|s| matches!(s, Loaded::Dora { original: true, .. }))
    }

    /// Applies every step to a tile: `w` is [rows, cols] from the absolute row `first`.
    pub fn apply(&self, kernels: &Kernels, first: u64, w: &mut [f32]) -> Result<(), Failure> {
        let start = self.needs_start().then(|| w.to_vec());
        for step in &self.steps {
            if let Some(delta) = step.delta() {
                let Right::Whole(right) = &delta.right else {
                    return Err(Failure::local("a factor that is read by ranges was applied as a whole"));
                };
                let (right, left) = (&right.packed, self.left_rows(delta, first, w.len()));
                let gains = step.row_gains(kernels, self, first, start.as_deref(), w.len(), |v| {
                    kernels.low_rank(v, left, right, delta.spec.scale)
                })?;
                kernels.low_rank(w, left, right, delta.spec.scale);
                step.rescale(kernels, self, first, w, gains)?;
            } else {
                step.plain(kernels, self, first, w);
            }
        }
        Ok(())
    }

    /// As [`Self::apply`] for all rows at once, with right factors read by column ranges.
    pub async fn apply_by_ranges(
        self: &Arc<Self>,
        shared: &Shared,
        inputs: &Inputs,
        first: u64,
        mut w: Vec<f32>,
    ) -> Result<Vec<f32>, Failure> {
        let start = self.needs_start().then(|| w.clone());
        for (i, step) in self.steps.iter().enumerate() {
            let mut original = None;
            if step.delta().is_some() {
                w = self.add_by_ranges(shared, inputs, i, first, w).await?;
                if let (Loaded::Dora { original: true, .. }, Some(start)) = (step, &start) {
                    original = Some(self.add_by_ranges(shared, inputs, i, first, start.clone()).await?);
                }
            }
            let (steps, kernels) = (Arc::clone(self), shared.kernels);
            let rest = move |_: &Threads| {
                let step = &steps.steps[i];
                step.plain(&kernels, &steps, first, &mut w);
                let gains = step.row_gains(&kernels, &steps, first, original.as_deref(), w.len(), |_| {})?;
                step.rescale(&kernels, &steps, first, &mut w, gains)?;
                Ok(w)
            };
            w = shared.compute(rest).await?;
        }
        Ok(w)
    }

    /// Adds the delta of step `i`, one column range after another.
    async fn add_by_ranges(
        self: &Arc<Self>,
        shared: &Shared,
        inputs: &Inputs,
        i: usize,
        first: u64,
        mut w: Vec<f32>,
    ) -> Result<Vec<f32>, Failure> {
        let Some(delta) = self.steps[i].delta() else { return Ok(w) };
        let cols = self.cols as usize;
        let step = match &delta.right {
            Right::Whole(_) => self.cols,
            Right::Ranges(width) => *width,
        };
        for c0 in (0..self.cols).step_by(step as usize) {
            let range = c0..(c0 + step).min(self.cols);
            let (ready, share) = match &delta.right {
                Right::Whole(ready) => (Arc::clone(ready), None),
                Right::Ranges(_) => {
                    let read = factors::right_range(shared, inputs, &delta.spec, self.cols, range.clone()).await;
                    let (ready, share) = read.map_err(|f| f.at(&delta.spec.right.source.name))?;
                    (Arc::new(ready), Some(share))
                }
            };
            let (steps, kernels) = (Arc::clone(self), shared.kernels);
            let (a, width) = (range.start as usize, (range.end - range.start) as usize);
            let add = move |threads: &Threads| {
                let _share = share;
                let Some(delta) = steps.steps[i].delta() else { return Ok(w) };
                let tile = ((1 << 18) / width).max(1);
                threads.each(w.chunks_mut(tile * cols).enumerate().collect(), Vec::new, |part, (t, w)| {
                    let left = steps.left_rows(delta, first + (t * tile) as u64, w.len());
                    part.clear();
                    part.extend(w.chunks_exact(cols).flat_map(|row| row[a..a + width].iter().copied()));
                    kernels.low_rank(part, left, &ready.packed, delta.spec.scale);
                    for (row, from) in w.chunks_exact_mut(cols).zip(part.chunks_exact(width)) {
                        row[a..a + width].copy_from_slice(from);
                    }
                    Ok(())
                })?;
                Ok(w)
            };
            w = shared.compute(add).await?;
        }
        Ok(w)
    }

    fn left_rows<'a>(&self, delta: &'a Delta, first: u64, len: usize) -> &'a [f32] {
        let rank = delta.spec.rank as usize;
        let at = (first - self.range.start) as usize;
        let rows = len / self.cols as usize;
        &delta.left[at * rank..(at + rows) * rank]
    }
}

impl Loaded {
    fn delta(&self) -> Option<&Delta> {
        match self {
            Loaded::Add(delta) | Loaded::Dora { delta, .. } => Some(delta),
            Loaded::AddScaled { .. } | Loaded::SetRows { .. } => None,
        }
    }

    /// Steps without a delta.
    fn plain(&self, kernels: &Kernels, steps: &Steps, first: u64, w: &mut [f32]) {
        let cols = steps.cols as usize;
        let at = (first - steps.range.start) as usize;
        match self {
            Loaded::AddScaled { values, scale } => kernels.add_scaled(w, &values[at * cols..][..w.len()], *scale),
            Loaded::SetRows { rows, values } => {
                let end = first + (w.len() / cols) as u64;
                for (row, i) in rows.iter().filter(|(r, _)| (first..end).contains(r)) {
                    w[(*row - first) as usize * cols..][..cols].copy_from_slice(&values[i * cols..][..cols]);
                }
            }
            Loaded::Add(_) | Loaded::Dora { .. } => {}
        }
    }

    /// Norms of the original rows plus the delta, where they are asked for: m / n of each row.
    fn row_gains(
        &self,
        kernels: &Kernels,
        steps: &Steps,
        first: u64,
        start: Option<&[f32]>,
        len: usize,
        add: impl FnOnce(&mut [f32]),
    ) -> Result<Option<Vec<f32>>, Failure> {
        let (Loaded::Dora { original: true, gain: Gain::Rows(magnitudes), name, .. }, Some(start)) = (self, start)
        else {
            return Ok(None);
        };
        let mut v = start[..len].to_vec();
        add(&mut v);
        let at = (first - steps.range.start) as usize;
        let rows = v.chunks_exact(steps.cols as usize).zip(&magnitudes[at..]);
        rows.enumerate()
            .map(|(i, (row, m))| gain(name, first + i as u64, *m, kernels.row_squares(row)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// DoRA's second half: `w` already carries the delta.
    fn rescale(
        &self,
        kernels: &Kernels,
        steps: &Steps,
        first: u64,
        w: &mut [f32],
        gains: Option<Vec<f32>>,
    ) -> Result<(), Failure> {
        let Loaded::Dora { gain: by, name, .. } = self else { return Ok(()) };
        let cols = steps.cols as usize;
        let at = (first - steps.range.start) as usize;
        match (by, gains) {
            (Gain::Columns(gains), _) => kernels.scale_columns(w, cols, gains),
            (Gain::Rows(_), Some(gains)) => {
                for (row, g) in w.chunks_exact_mut(cols).zip(gains) {
                    kernels.scale_row(row, g);
                }
            }
            (Gain::Rows(magnitudes), None) => {
                for (i, row) in w.chunks_exact_mut(cols).enumerate() {
                    let g = gain(name, first + i as u64, magnitudes[at + i], kernels.row_squares(row))?;
                    kernels.scale_row(row, g);
                }
            }
        }
        Ok(())
    }
}

fn gain(name: &str, output: u64, magnitude: f32, squares: f64) -> Result<f32, Failure> {
    dora_gain(magnitude, squares).ok_or_else(|| no_norm(name, output, squares.sqrt()))
}

/// An output of which the norm cannot be divided by.
pub fn no_norm(name: &str, output: u64, norm: f64) -> Failure {
    Failure::permanent(Kind::NonFinite, format!("the norm of output {output} is {norm}, so {name} cannot be applied"))
}

/// m / n of every output.
pub fn gains(name: &str, magnitudes: &[f32], squares: &[f64]) -> Result<Vec<f32>, Failure> {
    magnitudes.iter().zip(squares).enumerate().map(|(i, (m, s))| gain(name, i as u64, *m, *s)).collect()
}
