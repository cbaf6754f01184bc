//! A recipe run by its definition, all of it in memory: what every other way to run it is held against.

use std::collections::HashMap;
use std::ops::Range;

use super::arithmetic::{Arithmetic, Plain, PlainRight};
use super::made::{Form, Matrices, rounded};
use super::op::Op;
use super::operand::{Input, Need, Operand, Value};
use super::tile::{NoResult, Tile};
use super::{Fuse, Requantise, Step};
use crate::base::scheme::claim::Whole;
use crate::base::scheme::recode::Rows;
use crate::base::scheme::stored::Start;
use crate::inventory::Source;
use crate::statistic::{Block, Kind, Statistic, StatisticId, gains, numbers, whole};
use crate::tensor::View;
use crate::tensor::float::{self, Float};

/// Where the reference takes its inputs from.
pub trait Tensors {
    /// All elements of a stored tensor, in fp32.
    fn values(&self, source: &Source) -> Vec<f32>;
    /// The bytes of a stored tensor, of a parameter that is encoded again.
    fn bytes(&self, source: &Source) -> Vec<u8>;
    /// All elements of the parameter that a recipe starts from, in fp32.
    fn start(&self, start: &Start) -> Vec<f32>;
    /// A statistic of the plan.
    fn statistic(&self, id: StatisticId) -> &Statistic;
}

/// Tensors by their names, for tests of all kinds.
#[derive(Debug, Clone, Default)]
pub struct InMemory {
    /// All elements of each stored tensor, by its name, and of each start.
    pub values: HashMap<String, Vec<f32>>,
    /// The bytes of tensors that store a parameter that is encoded again.
    pub bytes: HashMap<String, Vec<u8>>,
    /// The statistics, by their number.
    pub statistics: Vec<Statistic>,
}

impl Tensors for InMemory {
    fn values(&self, source: &Source) -> Vec<f32> {
        self.values[&source.name].clone()
    }

    fn bytes(&self, source: &Source) -> Vec<u8> {
        self.bytes[&source.name].clone()
    }

    fn start(&self, start: &Start) -> Vec<f32> {
        self.values[start.name()].clone()
    }

    fn statistic(&self, id: StatisticId) -> &Statistic {
        &self.statistics[id.0 as usize]
    }
}

/// All rows of a parameter, before they are rounded.
///
/// # Errors
/// If an output has no norm, or a dtype cannot hold a value.
///
/// # Panics
/// If an operand does not lie in its tensor, or shapes do not fit: the recipe was not checked.
pub fn fuse(recipe: &Fuse, tensors: &impl Tensors) -> Result<Vec<f32>, NoResult> {
    run(&recipe.start, &recipe.steps, tensors)
}

/// The bytes of a tensor of codes or scales.
///
/// # Errors
/// As [`fuse`].
///
/// # Panics
/// As [`fuse`].
pub fn requantise(recipe: &Requantise, tensors: &impl Tensors) -> Result<Vec<u8>, NoResult> {
    let start = &recipe.fuse.start;
    let after = run(start, &recipe.fuse.steps, tensors)?;
    let whole = recipe.range.map(|id| range(id, tensors)).transpose()?;
    let (before, all) = (tensors.start(start), 0..start.matrix().0);
    let stored = stored(start, &all, tensors);
    let stored: Vec<&[u8]> = stored.iter().map(Vec::as_slice).collect();
    let recoder = recipe.recoder().expect("the recipe was checked");
    let rows = Rows { rows: &all, before: &before, after: &after, stored: &stored, whole };
    let [codes, scales] = recoder.encode(&rows, &floats);
    Ok(if recipe.place() == 0 { codes } else { scales })
}

fn range(id: StatisticId, tensors: &impl Tensors) -> Result<Whole, NoResult> {
    Ok(whole(&numbers(&statistic(tensors.statistic(id), tensors)?)))
}

/// The bytes of rows, as [`Start::decode`] takes them.
fn stored(start: &Start, rows: &Range<u64>, tensors: &impl Tensors) -> Vec<Vec<u8>> {
    let of = |(source, bytes): (&Source, Range<u64>)| {
        tensors.bytes(source)[bytes.start as usize..bytes.end as usize].to_vec()
    };
    start.stretches(rows.clone()).map(of).collect()
}

fn floats(float: Float, bytes: &[u8], out: &mut [f32]) {
    float::decode(float.dtype(), bytes, out);
}

/// The value of a statistic.
///
/// # Errors
/// As [`fuse`].
///
/// # Panics
/// As [`fuse`].
pub fn statistic(statistic: &Statistic, tensors: &impl Tensors) -> Result<Vec<u8>, NoResult> {
    let (start, kind) = (&statistic.start, statistic.kind);
    let after = run(start, &statistic.steps, tensors)?;
    let (height, cols) = start.matrix();
    let whole = match kind {
        Kind::Survival { range: Some(id), .. } => Some(range(id, tensors)?),
        _ => None,
    };
    let before = if kind.wants_before() { tensors.start(start) } else { Vec::new() };
    let state = |first: u64| {
        let rows = first..(first + statistic.block_rows()).min(height);
        let values = (rows.start * cols) as usize..(rows.end * cols) as usize;
        let bytes = if kind.wants_before() { stored(start, &rows, tensors) } else { Vec::new() };
        let bytes: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let before = before.get(values.clone()).unwrap_or(&[]);
        kind.accumulate(&Plain, &floats, start, &Block { rows, after: &after[values], before, stored: &bytes, whole })
    };
    let states: Vec<Vec<u8>> = (0..height).step_by(statistic.block_rows() as usize).map(state).collect();
    Ok(kind.fold(cols, states.iter().map(Vec::as_slice)))
}

fn run(start: &Start, steps: &[Step], tensors: &impl Tensors) -> Result<Vec<f32>, NoResult> {
    let (_, cols) = start.matrix();
    let start = tensors.start(start);
    let mut w = start.clone();
    for step in steps {
        let loaded = all(&step.op, tensors)?;
        let values: Vec<Value<'_, <Plain as Arithmetic>::Right>> =
            loaded.iter().map(|loaded| loaded.value(cols as usize)).collect();
        let mut tile = Tile { first: 0, column: 0, cols: cols as usize, w: &mut w };
        step.op.apply(&Plain, &mut tile, Some(&start), &values)?;
    }
    Ok(w)
}

enum Loaded<'a> {
    Plain(Vec<f32>),
    Right(PlainRight),
    Rights(Vec<PlainRight>),
    Rows(&'a [u64], Vec<f32>),
}

impl Loaded<'_> {
    fn value(&self, cols: usize) -> Value<'_, PlainRight> {
        match self {
            Loaded::Plain(values) => Value::Plain(values),
            Loaded::Right(right) => Value::Right(right),
            Loaded::Rights(rights) => Value::Rights(rights),
            Loaded::Rows(rows, values) => Value::Rows(rows.iter().copied().zip(values.chunks_exact(cols)).collect()),
        }
    }
}

/// What an operation takes: inputs and matrices of its delta, then its own.
fn all<'a>(op: &'a Op, tensors: &impl Tensors) -> Result<Vec<Loaded<'a>>, NoResult> {
    let mut loaded = Vec::new();
    let (of_delta, matrices) = op.delta().map(|delta| (delta.inputs(), delta.matrices())).unwrap_or_default();
    for input in &of_delta {
        loaded.push(load(input, tensors)?);
    }
    for matrices in &matrices {
        loaded.push(make(matrices, tensors)?);
    }
    for input in &op.own_inputs() {
        loaded.push(load(input, tensors)?);
    }
    for matrices in &op.own_matrices() {
        loaded.push(make(matrices, tensors)?);
    }
    Ok(loaded)
}

/// Matrices, made and rounded.
fn make<'a>(matrices: &Matrices<'a>, tensors: &impl Tensors) -> Result<Loaded<'a>, NoResult> {
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
    let operands: Vec<Vec<f64>> = matrices.made.operands().into_iter().map(|o| wide(operand(o, tensors))).collect();
    let operands: Vec<&[f64]> = operands.iter().map(Vec::as_slice).collect();
    let values = rounded(&matrices.made.make(&operands)?);
    let Ok(size) = matrices.made.size() else { return Ok(Loaded::Plain(values)) };
    let (rank, cols) = (size.rows as usize, size.cols as usize);
    let right = |values: &[f32]| PlainRight { values: values.to_vec(), rank, cols };
    Ok(match matrices.form {
        Form::Plain => Loaded::Plain(values),
        Form::Rights => Loaded::Rights(values.chunks_exact(rank * cols).map(right).collect()),
    })
}

fn load<'a>(input: &Input<'a>, tensors: &impl Tensors) -> Result<Loaded<'a>, NoResult> {
    let values = operand(input.operand, tensors);
    Ok(match input.need {
        Need::SameColumns => {
            let (rank, cols) = (input.operand.view.rows as usize, input.operand.view.cols as usize);
            Loaded::Right(PlainRight { values, rank, cols })
        }
        Need::Derived(id) => {
            let of = tensors.statistic(id);
            let value = numbers(&statistic(of, tensors)?);
            Loaded::Plain(gains(&input.operand.source.name, &values, &value)?)
        }
        Need::Rows(rows) => Loaded::Rows(rows, values),
        _ => Loaded::Plain(values),
    })
}

/// All of an operand, row-major.
fn operand(operand: &Operand, tensors: &impl Tensors) -> Vec<f32> {
    let mut values = gathered(operand.view, &tensors.values(&operand.source));
    if let Some(gains) = &operand.row_gains {
        for (row, gain) in values.chunks_exact_mut(operand.view.cols as usize).zip(tensors.values(gains)) {
            row.iter_mut().for_each(|v| *v *= gain);
        }
    }
    values
}

/// The elements of a view, by its formula.
fn gathered(view: View, stored: &[f32]) -> Vec<f32> {
    let at = |i, j| stored[(view.offset + i * view.row_stride + j * view.col_stride) as usize];
    (0..view.rows).flat_map(|i| (0..view.cols).map(move |j| at(i, j))).collect()
}
