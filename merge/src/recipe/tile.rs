//! Rectangles of a parameter while they are computed, and what an output may lack.

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
