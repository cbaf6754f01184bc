//! What every operation provides, and what it works on.

use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::delta::Delta;
use crate::recipe::operand::{Input, Value};
use crate::tensor::float::Float;

/// Whole rows of a parameter while they are computed.
#[derive(Debug)]
pub struct Tile<'a> {
    /// The number of the first row.
    pub first: u64,
    /// Columns.
    pub cols: usize,
    /// The values, row-major.
    pub w: &'a mut [f32],
}

/// Rows of a parameter in f64, wherever they lie.
#[derive(Debug)]
pub struct ExactRows<'a> {
    /// The numbers of the rows.
    pub rows: &'a [u64],
    /// Columns.
    pub cols: usize,
    /// The values, row-major.
    pub w: &'a mut [f64],
    /// How far another right result may be from each value: [`crate::recipe::exact`].
    pub doubt: &'a mut [f64],
}

/// Why an operation has no result.
#[derive(Debug, Clone, PartialEq)]
pub enum NoResult {
    /// An output has no norm to divide by.
    Norm(NoNorm),
    /// A dtype cannot hold a value.
    Overflow(Overflow),
}

impl From<NoNorm> for NoResult {
    fn from(norm: NoNorm) -> NoResult {
        NoResult::Norm(norm)
    }
}

impl From<Overflow> for NoResult {
    fn from(overflow: Overflow) -> NoResult {
        NoResult::Overflow(overflow)
    }
}

/// A value that is not finite, or that a dtype cannot hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Overflow {
    /// The row of the parameter.
    pub row: u64,
    /// The column.
    pub col: u64,
    /// The value.
    pub value: f32,
    /// What it was to be rounded to.
    pub to: Float,
}

/// An output that has no norm to divide by.
#[derive(Debug, Clone, PartialEq)]
pub struct NoNorm {
    /// The tensor that scales it.
    pub tensor: String,
    /// The number of the output.
    pub output: u64,
    /// Its norm.
    pub norm: f64,
}

/// What every operation provides.
pub trait Definition {
    /// The delta that it adds first.
    fn delta(&self) -> Option<&Delta> {
        None
    }
    /// What it reads beside its delta. The values are passed in this order.
    fn inputs(&self) -> Vec<Input<'_>>;
    /// Whether it needs `start + delta` beside the weight that stands.
    fn wants_original(&self) -> bool {
        false
    }
    /// The definition in fp32, behind the delta.
    fn finish<A: Arithmetic>(
        &self,
        arithmetic: &A,
        tile: &mut Tile<'_>,
        original: Option<&[f32]>,
        values: &[Value<'_, A::Right>],
    ) -> Result<(), NoResult>;
    /// The same in f64; an output without a norm becomes NaN. An input that is derived has two lists of values: the values,
    /// and how far each may be off.
    fn exact(&self, tile: &mut ExactRows<'_>, original: Option<&[f64]>, values: &[&[f64]]);
    /// Fused multiply-adds for each element, beside the delta's.
    fn cost(&self) -> u64;
}
