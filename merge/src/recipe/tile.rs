//! Rectangles of a parameter while they are computed, and what an output may lack.

use crate::tensor::float::Float;

/// Rows of a parameter while they are computed, or a range of their columns.
#[derive(Debug)]
pub struct Tile<'a> {
    /// The number of the first row.
    pub first: u64,
    /// The number of the first column.
    pub column: u64,
    /// Columns.
    pub cols: usize,
    /// The values, row-major.
    pub w: &'a mut [f32],
}

/// Rows of a parameter in f64, wherever they lie, or a range of their columns.
#[derive(Debug)]
pub struct ExactRows<'a> {
    /// The numbers of the rows.
    pub rows: &'a [u64],
    /// The number of the first column.
    pub column: u64,
    /// Columns.
    pub cols: usize,
    /// The values, row-major.
    pub w: &'a mut [f64],
    /// How far another right result may be from each value: [`crate::recipe::exact`]. Empty for a delta, which leaves it as it is.
    pub doubt: &'a mut [f64],
}

/// Why an operation has no result.
#[derive(Debug, Clone, PartialEq)]
pub enum NoResult {
    /// An output has no norm to divide by.
    Norm(NoNorm),
    /// A dtype cannot hold a value.
    Overflow(Overflow),
    /// A stored place is none.
    Place(NoPlace),
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

impl From<NoPlace> for NoResult {
    fn from(place: NoPlace) -> NoResult {
        NoResult::Place(place)
    }
}

/// A number that stands for a place, and is no whole number within bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct NoPlace {
    /// The tensor that holds it.
    pub tensor: String,
    /// What it is; fp32 may have rounded it where it is 2^24 and more.
    pub place: f64,
    /// How many places there are.
    pub of: u64,
}

impl NoPlace {
    /// A stored number as a place.
    ///
    /// # Errors
    /// If it is none.
    pub fn check(tensor: &str, place: f64, of: u64) -> Result<u64, NoPlace> {
        match place >= 0.0 && place < of as f64 && place.fract() == 0.0 {
            true => Ok(place as u64),
            false => Err(NoPlace { tensor: tensor.to_owned(), place, of }),
        }
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
