//! What an operation reads: a matrix of an input, and how much of it a tile of rows needs.

use serde::{Deserialize, Serialize};

use crate::inventory::Source;
use crate::statistic::id::StatisticId;
use crate::tensor::View;

/// A matrix that lies in an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operand {
    /// The stored tensor.
    pub source: Source,
    /// The matrix in it.
    pub view: View,
    /// One value for each row: row `i` is multiplied by value `i`, rounded to fp32. AdaLoRA's singular values and VeRA's
    /// vectors are stored beside their matrices.
    pub row_gains: Option<Source>,
}

impl Operand {
    /// A stored tensor as a matrix.
    pub fn matrix(source: Source) -> Operand {
        Operand { view: View::of(&source.shape), source, row_gains: None }
    }

    /// The transpose of a stored tensor, seen as a matrix.
    pub fn transposed(source: Source) -> Operand {
        Operand { view: View::of(&source.shape).transposed(), source, row_gains: None }
    }

    /// A stored tensor as a matrix whose columns are its last dimension.
    pub fn stacked(source: Source) -> Operand {
        let cols = source.shape.last().copied().unwrap_or(1).max(1);
        let view = View { rows: source.elements() / cols, cols, row_stride: cols, col_stride: 1, offset: 0 };
        Operand { source, view, row_gains: None }
    }

    /// A stored tensor as a vector, whatever its shape.
    pub fn vector(source: Source) -> Operand {
        Operand { view: View::vector(source.elements()), source, row_gains: None }
    }

    /// Every stored tensor that it reads.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        std::iter::once(&self.source).chain(&self.row_gains)
    }
}

/// How much of an operand a tile of the parameter needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need<'a> {
    /// The tile's rows, and all columns of the operand. The operand has the parameter's rows.
    SameRows,
    /// All rows of the operand, and the tile's columns. The operand has the parameter's columns.
    SameColumns,
    /// The tile's rows and columns. The operand has the parameter's shape.
    Same,
    /// Row `i` of the operand belongs to row `rows[i]` of the parameter; the tile's columns.
    Rows(&'a [u64]),
    /// One value for each row of the tile. The operand is a vector of the parameter's rows.
    PerRow,
    /// One value for each column of the tile. The operand is a vector of the parameter's columns.
    PerColumn,
    /// One value for each column, made of the operand's by a statistic ([`crate::statistic::gains`]).
    Derived(StatisticId),
}

/// An operand and how much of it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input<'a> {
    /// The matrix.
    pub operand: &'a Operand,
    /// How much of it a tile needs.
    pub need: Need<'a>,
}

impl<'a> Input<'a> {
    pub(super) fn new(operand: &'a Operand, need: Need<'a>) -> Self {
        Input { operand, need }
    }
}

/// The values of an input for a tile, in fp32.
#[derive(Debug)]
pub enum Value<'a, R> {
    /// A matrix or vector, row-major.
    Plain(&'a [f32]),
    /// [`Need::SameColumns`]: a right factor.
    Right(&'a R),
    /// Matrices that were made, each as a right factor.
    Rights(&'a [R]),
    /// [`Need::Rows`]: the rows that fall into the tile, by their number in the parameter.
    Rows(Vec<(u64, &'a [f32])>),
}

impl<'a, R> Value<'a, R> {
    /// # Panics
    /// If it is something else: a defect of the caller, which passes values in the order and form of the inputs.
    pub(super) fn plain(&self) -> &'a [f32] {
        match self {
            Value::Plain(values) => values,
            _ => panic!("a plain value is needed"),
        }
    }

    /// # Panics
    /// As [`Self::plain`].
    pub(super) fn rights(&self) -> &'a [R] {
        match self {
            Value::Rights(rights) => rights,
            _ => panic!("right factors are needed"),
        }
    }

    /// # Panics
    /// As [`Self::plain`].
    pub(super) fn right(&self) -> &'a R {
        match self {
            Value::Right(right) => right,
            _ => panic!("a right factor is needed"),
        }
    }
}
