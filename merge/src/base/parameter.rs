//! Parameters: what a model has, apart from how a checkpoint stores it.

use super::scheme::stored::Stored;

/// A parameter of a model.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub dims: Vec<u64>,
    /// How it is stored.
    pub stored: Stored,
    /// Where its tensors stand, in the same order.
    pub positions: Vec<Position>,
}

/// Where a stored tensor stands in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its number among all tensors.
    pub number: usize,
    /// The number of the weight file that holds it.
    pub shard: usize,
}
