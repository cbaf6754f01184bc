//! A job: rows of one tensor with everything that their fusion needs.

use std::ops::Range;
use std::sync::Arc;

use shardfuse_merge::Dtype;

use super::right::Right;
use super::tiling::Tiling;
use crate::Failure;

/// What is done to the rows.
#[derive(Debug)]
pub struct Program {
    /// How the tensor is tiled.
    pub tiling: Tiling,
    /// The wanted rows.
    pub rows: Range<u64>,
    /// The dtype of the weights that come in.
    pub from: Dtype,
    /// The dtype of those that go out.
    pub to: Dtype,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// One low-rank step.
#[derive(Debug)]
pub struct Step {
    /// [rows of the tiling's cover, rank], row-major.
    pub left: Vec<f32>,
    /// [rank, cols].
    pub right: Arc<Right>,
    /// The inner dimension.
    pub rank: u64,
    /// The delta's factor.
    pub scale: f32,
    /// DoRA's second half.
    pub gain: Option<Gain>,
}

/// DoRA's gains.
#[derive(Debug)]
pub enum Gain {
    /// From the norm of each row.
    Rows {
        /// One magnitude a wanted row.
        magnitudes: Vec<f32>,
        /// Whether the norm is that of the start plus this delta.
        of_original: bool,
    },
    /// m / n of each column.
    Columns(Arc<Vec<f32>>),
}

/// Why there is no result.
#[derive(Debug)]
pub enum Wrong {
    /// A value that is not finite, or that the output's dtype cannot hold.
    NonFinite {
        /// Its row in the tensor.
        row: u64,
        /// Its column.
        col: u64,
        /// The fp32 value before it was rounded.
        value: f32,
    },
    /// A row without a usable norm.
    Norm {
        /// The step.
        step: usize,
        /// The row in the tensor.
        row: u64,
        /// The norm, as fp32.
        norm: f32,
    },
    /// The device or this process failed.
    Failed(Failure),
}

/// What comes back: the part.
pub type Done = Result<Vec<u8>, Wrong>;
