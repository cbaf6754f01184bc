//! A recipe's steps with everything loaded that a run of rows needs, and their application to a tile of rows.
//!
//! What is loaded follows from the operations' inputs, and what is computed is their definition, run on this CPU's kernels.
//! Nothing here knows what an operation means.

use std::ops::Range;
use std::sync::Arc;

use shardfuse_merge::recipe::op::Tile;
use shardfuse_merge::recipe::{Input, Matrices, Need, Op, Step, Value};

use super::effect::Watch;
use super::tile::{ready, rows_of_a_tile};
use crate::Failure;
use crate::device::cpu::{Kernels, Packed};
use crate::pipeline::raw::Raw;
use crate::pipeline::read::{self, MadeValues, Reader, RightFactor};
use crate::pipeline::threads::Threads;

/// Factors by name, and whether what was read of them is all zero.
pub type Factors = Vec<(String, bool)>;

/// A run of rows of a tensor.
#[derive(Debug, Clone)]
pub struct Extent {
    /// The rows.
    pub rows: Range<u64>,
    /// Columns of the tensor.
    pub cols: u64,
}

/// An input's values.
#[derive(Debug)]
enum Loaded {
    /// Rows of the extent, each of so many values.
    Rows(Vec<f32>, usize),
    /// Something for each column.
    Columns(Arc<Vec<f32>>),
    /// A right factor.
    Right(Arc<RightFactor>),
    /// Matrices that were made.
    Made(Arc<MadeValues>),
    /// A right factor that is read by ranges of columns.
    Ranges,
    /// Rows of the extent by their number, and where each lies among the values.
    Listed(Vec<(u64, usize)>, Vec<f32>),
}

/// An operation with its inputs and matrices: the delta's, and its own.
#[derive(Debug)]
struct Prepared {
    op: Op,
    delta: Vec<Loaded>,
    own: Vec<Loaded>,
    /// The width of the ranges in which the delta's right factors are read.
    width: Option<u64>,
}

/// A recipe's steps, loaded for a run of rows.
#[derive(Debug)]
pub struct Steps {
    steps: Vec<Prepared>,
    extent: Extent,
    /// What was seen of the factors.
    pub seen: Factors,
    /// Of each step whether it is known to add zero.
    pub idle: Vec<bool>,
    /// What looks at what the steps do, if anybody wants to know.
    pub watch: Option<Arc<Watch>>,
}

/// Bytes of memory that steps hold for `rows` rows of `cols` columns, about, with `loading` bytes for loading factors.
pub fn held(steps: &[Step], rows: u64, cols: u64, loading: u64) -> u64 {
    let mut by_ranges = false;
    let mut all = 0u64;
    for step in steps {
        let whole = step.op.delta().is_none_or(|d| read::range_width(d, cols, loading).is_none());
        by_ranges |= !whole;
        for input in step.op.inputs() {
            all = all.saturating_add(read::held(&input, rows, cols, whole));
        }
        let made = step.op.matrices();
        all = made.iter().map(read::kept).fold(all, u64::saturating_add);
    }
    if !by_ranges {
        return all;
    }
    // All rows are at hand in fp32, and three times more where the original is kept beside: it, its sum, its rows' norms.
    let original = steps.iter().any(|s| s.op.wants_original());
    all + rows * cols * 4 * if original { 4 } else { 1 }
}

struct Loader<'a> {
    reader: Reader<'a>,
    extent: &'a Extent,
}

impl Loader<'_> {
    async fn step(&self, step: &Step) -> Result<Prepared, Failure> {
        let delta_inputs = step.op.delta().map(|d| d.inputs()).unwrap_or_default();
        let own_inputs = step.op.own_inputs();
        let loading = self.reader.shared.loading.bytes();
        let width = step.op.delta().and_then(|d| read::range_width(d, self.extent.cols, loading));
        let load = async |input: Input<'_>| {
            let loaded = self.input(&input, width.is_some()).await;
            loaded.map_err(|f| f.at(format_args!("adapter {}, {}", step.adapter + 1, input.operand.source.name)))
        };
        let make = async |matrices: Matrices<'_>| {
            let made = self.reader.made(&matrices).await;
            made.map(Loaded::Made).map_err(|f| f.at(format_args!("adapter {}", step.adapter + 1)))
        };
        let of_delta = step.op.delta().map(|d| d.matrices()).unwrap_or_default();
        let delta = futures::future::try_join_all(delta_inputs.into_iter().map(&load));
        let made = futures::future::try_join_all(of_delta.into_iter().map(&make));
        let own = futures::future::try_join_all(own_inputs.into_iter().map(&load));
        let own_made = futures::future::try_join_all(step.op.own_matrices().into_iter().map(&make));
        let (mut delta, mut made, mut own, mut own_made) = futures::try_join!(delta, made, own, own_made)?;
        delta.append(&mut made);
        own.append(&mut own_made);
        Ok(Prepared { op: step.op.clone(), delta, own, width })
    }

    async fn input(&self, input: &Input<'_>, by_ranges: bool) -> Result<Loaded, Failure> {
        let (reader, operand) = (self.reader, input.operand);
        let rows = self.extent.rows.clone();
        Ok(match input.need {
            Need::SameRows | Need::Same | Need::PerRow => {
                Loaded::Rows(reader.rows(operand, rows).await?, operand.view.cols as usize)
            }
            Need::SameColumns if by_ranges => Loaded::Ranges,
            Need::SameColumns => Loaded::Right(reader.right(operand).await?),
            Need::Rows(list) => {
                let within = || (0u64..).zip(list).filter(|(_, row)| rows.contains(row));
                let from: Vec<u64> = within().map(|(i, _)| i).collect();
                let values = reader.listed(operand, &from).await?;
                Loaded::Listed(within().enumerate().map(|(at, (_, row))| (*row, at)).collect(), values)
            }
            Need::PerColumn => Loaded::Columns(Arc::new(reader.rows(operand, 0..operand.view.rows).await?)),
            Need::Derived(id) => Loaded::Columns(reader.derive(id, operand).await?),
        })
    }
}

impl Prepared {
    /// Factors of the delta by name, and whether what was read of them is all zero.
    fn seen(&self, kernels: &Kernels) -> Factors {
        let inputs = self.op.delta().map(|d| d.inputs()).unwrap_or_default();
        let zero = |(input, loaded): (&Input<'_>, &Loaded)| {
            let zero = match (input.need, loaded) {
                (Need::SameRows, Loaded::Rows(values, _)) => kernels.all_zero(values),
                (_, Loaded::Right(ready)) => ready.zero,
                _ => return None,
            };
            Some((input.operand.source.name.clone(), zero))
        };
        inputs.iter().zip(&self.delta).filter_map(zero).collect()
    }
}

impl Loaded {
    /// The values for whole rows `rows` of the extent, which begins at row `begin`.
    fn value(&self, begin: u64, rows: &Range<u64>, cols: usize) -> Result<Value<'_, Packed>, Failure> {
        Ok(match self {
            Loaded::Rows(values, width) => {
                let (from, to) = ((rows.start - begin) as usize, (rows.end - begin) as usize);
                Value::Plain(&values[from * width..to * width])
            }
            Loaded::Columns(values) => Value::Plain(values),
            Loaded::Right(ready) => Value::Right(&ready.packed),
            Loaded::Made(made) => match &**made {
                MadeValues::Plain(values) => Value::Plain(values),
                MadeValues::Rights(rights) => Value::Rights(rights),
            },
            Loaded::Ranges => return Err(Failure::local("a factor that is read by ranges was applied as a whole")),
            Loaded::Listed(list, values) => {
                let within = list.iter().filter(|(row, _)| rows.contains(row));
                Value::Rows(within.map(|(row, at)| (*row, &values[at * cols..][..cols])).collect())
            }
        })
    }
}

impl Steps {
    /// Loads what the steps need, all at the same time.
    pub async fn load(reader: Reader<'_>, steps: &[Step], extent: Extent) -> Result<Steps, Failure> {
        let loader = Loader { reader, extent: &extent };
        let loaded = futures::future::try_join_all(steps.iter().map(|step| loader.step(step))).await?;
        let seen: Vec<Factors> = loaded.iter().map(|step| step.seen(&reader.shared.kernels)).collect();
        // A product with a factor of zeros. What is added to by another operation may change all the same, as DoRA's norms do.
        let idle =
            |(step, seen): (&Prepared, &Factors)| matches!(step.op, Op::Add(_)) && seen.iter().any(|(_, zero)| *zero);
        let idle = loaded.iter().zip(&seen).map(idle).collect();
        Ok(Steps { steps: loaded, extent, seen: seen.concat(), idle, watch: None })
    }

    /// Whether every right factor is in memory, so that tiles can be computed without reading.
    pub fn in_memory(&self) -> bool {
        self.steps.iter().all(|step| step.width.is_none())
    }

    /// Columns of the parameter.
    pub fn cols(&self) -> usize {
        self.extent.cols as usize
    }

    fn wants_original(&self) -> bool {
        self.steps.iter().any(|step| step.op.wants_original())
    }

    fn values<'a>(&self, loaded: &'a [Loaded], rows: &Range<u64>) -> Result<Vec<Value<'a, Packed>>, Failure> {
        let (begin, cols) = (self.extent.rows.start, self.extent.cols as usize);
        loaded.iter().map(|loaded| loaded.value(begin, rows, cols)).collect()
    }

    /// Applies every step to a tile: `w` is [rows, cols] from the row `first`.
    pub fn apply(&self, kernels: &Kernels, first: u64, w: &mut [f32]) -> Result<(), Failure> {
        let cols = self.extent.cols as usize;
        let rows = first..first + (w.len() / cols) as u64;
        let start = self.wants_original().then(|| w.to_vec());
        for (number, step) in self.steps.iter().enumerate() {
            let mut values = self.values(&step.delta, &rows)?;
            values.append(&mut self.values(&step.own, &rows)?);
            let watch = self.watch.as_ref().filter(|watch| watch.waits(number)).map(|watch| (watch, w.to_vec()));
            let mut tile = Tile { first, column: 0, cols, w };
            step.op.apply(kernels, &mut tile, start.as_deref(), &values)?;
            if let Some((watch, before)) = watch {
                watch.saw(kernels, number, &before, w);
            }
        }
        Ok(())
    }

    /// Applies every step to all rows of the extent at once. They start from `raw`.
    pub async fn apply_to_all(self: &Arc<Self>, reader: Reader<'_>, raw: Raw) -> Result<Vec<f32>, Failure> {
        let kernels = reader.shared.kernels;
        let length = ((self.extent.rows.end - self.extent.rows.start) * self.extent.cols) as usize;
        let (first, cols) = (self.extent.rows.start, self.extent.cols as usize);
        let height = rows_of_a_tile(self.extent.cols);
        let raw = ready(reader.shared, raw).await?;
        let decode = move |threads: &Threads| {
            let mut w = vec![0.0f32; length];
            let tiles = w.chunks_mut(height * cols).enumerate().collect();
            threads.each(
                tiles,
                || (),
                |(), (i, w)| {
                    let first = first + (i * height) as u64;
                    raw.decode(&kernels, first..first + (w.len() / cols) as u64, w);
                    Ok(())
                },
            )?;
            Ok(w)
        };
        let mut w = reader.shared.compute(decode).await?;
        if !self.in_memory() {
            return self.apply_by_ranges(reader, w).await;
        }
        let steps = Arc::clone(self);
        let apply = move |threads: &Threads| {
            let tiles = w.chunks_mut(height * cols).enumerate().collect();
            threads.each(tiles, || (), |(), (i, w)| steps.apply(&kernels, first + (i * height) as u64, w))?;
            Ok(w)
        };
        reader.shared.compute(apply).await
    }

    /// Applies every step to all rows of the extent, with right factors read by ranges of columns.
    async fn apply_by_ranges(self: &Arc<Self>, reader: Reader<'_>, mut w: Vec<f32>) -> Result<Vec<f32>, Failure> {
        let start = self.wants_original().then(|| w.clone());
        for (i, step) in self.steps.iter().enumerate() {
            let original = match start.as_ref().filter(|_| step.op.wants_original()) {
                Some(start) => Some(self.add_by_ranges(reader, i, start.clone()).await?),
                None => None,
            };
            w = self.add_by_ranges(reader, i, w).await?;
            let (steps, kernels) = (Arc::clone(self), reader.shared.kernels);
            let finish = move |_: &Threads| {
                let (step, rows) = (&steps.steps[i], &steps.extent.rows);
                let own = steps.values(&step.own, rows)?;
                let cols = steps.extent.cols as usize;
                let mut tile = Tile { first: rows.start, column: 0, cols, w: &mut w };
                step.op.finish(&kernels, &mut tile, original.as_deref(), &own)?;
                Ok(w)
            };
            w = reader.shared.compute(finish).await?;
        }
        Ok(w)
    }

    /// Adds the delta of step `i`, one range of columns after another.
    async fn add_by_ranges(
        self: &Arc<Self>,
        reader: Reader<'_>,
        i: usize,
        mut w: Vec<f32>,
    ) -> Result<Vec<f32>, Failure> {
        let Some(delta) = self.steps[i].op.delta() else { return Ok(w) };
        let all = self.extent.cols;
        let width = self.steps[i].width.unwrap_or(all);
        for from in (0..all).step_by(width as usize) {
            let columns = from..(from + width).min(all);
            let (rights, share) = match self.steps[i].width {
                None => (Vec::new(), None),
                Some(_) => {
                    let (rights, share) = reader.right_ranges(delta, columns.clone()).await?;
                    (rights, Some(share))
                }
            };
            let (steps, kernels) = (Arc::clone(self), reader.shared.kernels);
            let add = move |threads: &Threads| {
                let _share = share;
                let columns = columns.start as usize..columns.end as usize;
                steps.add_columns(threads, &kernels, i, &rights, columns, &mut w)?;
                Ok(w)
            };
            w = reader.shared.compute(add).await?;
        }
        Ok(w)
    }

    /// Adds columns of the delta of step `i` to all rows, tile by tile.
    fn add_columns(
        &self,
        threads: &Threads,
        kernels: &Kernels,
        i: usize,
        rights: &[RightFactor],
        columns: Range<usize>,
        w: &mut [f32],
    ) -> Result<(), Failure> {
        let step = &self.steps[i];
        let Some(delta) = step.op.delta() else { return Ok(()) };
        let (cols, width) = (self.extent.cols as usize, columns.end - columns.start);
        let height = rows_of_a_tile(width as u64);
        threads.each(w.chunks_mut(height * cols).enumerate().collect(), Vec::new, |part, (t, w)| {
            let first = self.extent.rows.start + (t * height) as u64;
            let rows = first..first + (w.len() / cols) as u64;
            part.clear();
            part.extend(w.chunks_exact(cols).flat_map(|row| row[columns.clone()].iter().copied()));
            let mut rights = rights.iter();
            let values = step.delta.iter().map(|loaded| match loaded {
                Loaded::Ranges => rights.next().map(|ready| Value::Right(&ready.packed)).ok_or_else(missing),
                loaded => loaded.value(self.extent.rows.start, &rows, cols),
            });
            let values: Vec<_> = values.collect::<Result<_, _>>()?;
            let mut tile = Tile { first, column: columns.start as u64, cols: width, w: part };
            delta.add(kernels, &mut tile, &values);
            for (row, from) in w.chunks_exact_mut(cols).zip(part.chunks_exact(width)) {
                row[columns.clone()].copy_from_slice(from);
            }
            Ok(())
        })
    }
}

fn missing() -> Failure {
    Failure::local("a range of a right factor was not read")
}
