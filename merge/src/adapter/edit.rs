//! Edits: what an adapter does to single tensors of a base.

use super::delta::Delta;
use crate::inventory::{Equal, Source};
use crate::recipe::Op;

/// Why a tensor is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The module was trained whole, as a copy of its own (`modules_to_save`).
    Trained,
    /// The base's own tensor as the adapter left it: a resized embedding saved beside a delta, a bias that was trained.
    Resized,
}

/// A dimension of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// Its outputs: the rows of a weight [out, in].
    Outputs,
    /// Its inputs.
    Inputs,
}

/// What is done to one base tensor.
#[derive(Debug, Clone)]
pub enum Change {
    /// The whole tensor is replaced; `twin` is a second copy that must be equal.
    Replace {
        /// The new tensor.
        source: Source,
        /// Why.
        origin: Origin,
        /// A second copy that the adapter holds.
        twin: Option<Source>,
    },
    /// Rows are replaced.
    Rows {
        /// Row numbers, in the order of the source.
        rows: Vec<u64>,
        /// [n, dim].
        source: Source,
    },
    /// A delta made of factors.
    Delta(Box<Delta>),
    /// Outputs or inputs are multiplied.
    Multiply {
        /// One gain for each output, or each input.
        gains: Source,
        /// What a gain multiplies.
        of: Dimension,
    },
    /// Whatever an operation does to a weight that is stored as [out, in].
    Apply(Applied),
    /// A delta of a bias: a tensor of its shape, times the scale.
    Bias {
        /// `[out]`.
        source: Source,
        /// The scale, without the adapter's weight.
        scale: f64,
    },
}

impl Change {
    /// A delta made of factors.
    pub fn delta(delta: Delta) -> Change {
        Change::Delta(Box::new(delta))
    }
}

/// Operations on a weight, as the adapter describes them.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The operations, in order.
    pub ops: Vec<Op>,
    /// Outputs of the weight, or tokens of an embedding. `None` where the adapter does not tell.
    pub outputs: Option<u64>,
    /// The rank, where there is one.
    pub rank: Option<u64>,
}

/// Rows of a stored tensor, seen as a matrix whose columns are its last dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRange {
    /// The first row.
    pub first: u64,
    /// How many they are.
    pub count: u64,
    /// The columns.
    pub cols: u64,
}

/// An edit of one base tensor.
#[derive(Debug, Clone)]
pub struct Edit {
    /// The tensor's name in the base.
    pub tensor: String,
    /// The rows that are edited, as if they were a tensor by themselves; `None` for the whole tensor.
    pub rows: Option<RowRange>,
    /// The module's path in the base.
    pub module: String,
    /// The change.
    pub change: Change,
}

/// A tensor of a head that the base lacks.
#[derive(Debug, Clone)]
pub struct HeadTensor {
    /// What it may be called, the likeliest first.
    pub names: Vec<String>,
    /// The tensor.
    pub source: Source,
}

/// An adapter, resolved against a base.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// The edits, replacements first, then rows, then deltas; by tensor name within each.
    pub edits: Vec<Edit>,
    /// The tensors of a head that the base lacks.
    pub heads: Vec<HeadTensor>,
    /// Keys that are left out on purpose, with the reason.
    pub ignored: Vec<(String, String)>,
    /// What deserves a look.
    pub warnings: Vec<String>,
    /// Tensors that must be equal.
    pub equals: Vec<Equal>,
    /// Whether a tensor has columns of several experts, whose order a flag can change.
    pub expert_blocks: bool,
}
