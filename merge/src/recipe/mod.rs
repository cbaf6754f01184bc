//! How one output tensor comes about.
//!
//! Every tensor is seen as a matrix `[rows, cols]`: `rows` is the first dimension, `cols` the product of the others (a
//! vector is `[n, 1]`, a scalar `[1, 1]`). A recipe is either a copy of bytes, or a start and an ordered list of steps in
//! fp32 with one rounding at the end (the arithmetic stands in `crate::fuse`).

use serde::{Deserialize, Serialize};

use crate::inventory::Source;
use crate::tensor::Dtype;

/// A low-rank factor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factor {
    /// The stored tensor, seen as a matrix.
    pub source: Source,
    /// Whether the stored matrix is the transpose of what the product takes.
    pub transposed: bool,
}

/// `delta = scale * left @ right`, left [rows, rank], right [rank, cols].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LowRank {
    /// [rows, rank]; lora_B, or lora_A transposed.
    pub left: Factor,
    /// [rank, cols]; lora_A, or lora_B transposed.
    pub right: Factor,
    /// The inner dimension.
    pub rank: u64,
    /// alpha / r (or alpha / sqrt r) times the adapter's weight, rounded to fp32 once.
    pub scale: f32,
}

/// Where DoRA's norms come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Norm {
    /// One output a row: the worker takes the norm of each row that it computes.
    Rows,
    /// One output a column: measured beforehand over all rows.
    Measured(MeasureId),
}

/// Which weight DoRA's norm is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DoraNorm {
    /// The weight that stands so far plus the adapter's delta.
    #[default]
    Standing,
    /// The start weight plus the adapter's delta, as PEFT 0.21 does for two DoRAs of one model.
    Original,
}

/// A measurement by its number in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MeasureId(pub u32);

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// `w += delta`.
    Add(LowRank),
    /// `v = w + delta; w = (m / n) * v`, with `n` the L2 norm of `v` (or of the start plus delta) per output.
    Dora {
        /// The delta.
        delta: LowRank,
        /// One magnitude an output.
        magnitude: Source,
        /// Where the norms come from.
        norm: Norm,
        /// What they are taken of.
        of: DoraNorm,
    },
    /// `w += scale * v` for a tensor of the same shape.
    AddScaled {
        /// The tensor.
        source: Source,
        /// The scale.
        scale: f32,
    },
    /// `w[rows[i], :] = source[i, :]`.
    SetRows {
        /// The rows, in the order of the source.
        rows: Vec<u64>,
        /// [n, cols].
        source: Source,
    },
}

/// One step and the adapter that it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The adapter's number in the plan.
    pub adapter: u16,
    /// What is done.
    pub op: Op,
}

/// A tensor that is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fuse {
    /// The weight that the steps start from.
    pub start: Source,
    /// The adapter that brought the start, where it is a replacement.
    pub start_adapter: Option<u16>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// A copied tensor that only changes its dtype keeps the infinities that it came with (masks hold them).
    pub keep_non_finite: bool,
}

/// How one output tensor comes about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Recipe {
    /// The bytes of the source.
    Copy(Source),
    /// Computed.
    Fuse(Fuse),
}

/// A reduction over a whole tensor that steps wait for: the sum of squares of each column of
/// `start + steps`, in f64 (the order of the sum stands in `crate::fuse::norm`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// The output tensor that waits for it.
    pub tensor: String,
    /// The weight that the steps start from.
    pub start: Source,
    /// Steps, the last of which adds the delta that is measured.
    pub steps: Vec<Step>,
    /// Measurements that the steps themselves need.
    pub needs: Vec<MeasureId>,
}

/// The matrix view of a shape.
pub fn matrix(shape: &[u64]) -> (u64, u64) {
    match shape {
        [] => (1, 1),
        [rows, rest @ ..] => (*rows, rest.iter().product()),
    }
}

impl Op {
    /// The low-rank delta in it.
    pub fn delta(&self) -> Option<&LowRank> {
        match self {
            Op::Add(delta) | Op::Dora { delta, .. } => Some(delta),
            Op::AddScaled { .. } | Op::SetRows { .. } => None,
        }
    }

    /// The measurement that it waits for.
    pub fn needs(&self) -> Option<MeasureId> {
        match self {
            Op::Dora { norm: Norm::Measured(id), .. } => Some(*id),
            _ => None,
        }
    }

    /// Every tensor that it reads.
    pub fn sources(&self) -> Vec<&Source> {
        match self {
            Op::Add(d) => vec![&d.left.source, &d.right.source],
            Op::Dora { delta: d, magnitude, .. } => vec![&d.left.source, &d.right.source, magnitude],
            Op::AddScaled { source, .. } | Op::SetRows { source, .. } => vec![source],
        }
    }
}

impl Recipe {
    /// Every tensor that it reads.
    pub fn sources(&self) -> Vec<&Source> {
        match self {
            Recipe::Copy(source) => vec![source],
            Recipe::Fuse(f) => std::iter::once(&f.start).chain(f.steps.iter().flat_map(|s| s.op.sources())).collect(),
        }
    }

    /// The measurements that it waits for.
    pub fn needs(&self) -> Vec<MeasureId> {
        match self {
            Recipe::Copy(_) => Vec::new(),
            Recipe::Fuse(f) => f.steps.iter().filter_map(|s| s.op.needs()).collect(),
        }
    }

    /// The dtype of what it starts from.
    pub fn start(&self) -> &Source {
        match self {
            Recipe::Copy(source) => source,
            Recipe::Fuse(fuse) => &fuse.start,
        }
    }
}

/// A tensor's place in an output file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// The name.
    pub name: String,
    /// The output dtype.
    pub dtype: Dtype,
    /// The shape.
    pub shape: Vec<u64>,
    /// The first byte in the file, header included.
    pub offset: u64,
    /// The length in bytes.
    pub length: u64,
    /// How it comes about.
    pub recipe: Recipe,
}
