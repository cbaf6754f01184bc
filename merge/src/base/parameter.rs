//! Parameters: what a model has, apart from how a checkpoint stores it.

use super::scheme::claim::Scheme;
use crate::inventory::Source;

/// A parameter of a model.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub dims: Vec<u64>,
    /// How it is stored.
    pub stored: Stored,
    /// The number of the weight file that holds it.
    pub shard: usize,
}

/// How a parameter is stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What knows the layout.
    pub scheme: &'static dyn Scheme,
    /// The tensors, in the scheme's order; at least one.
    pub tensors: Vec<Source>,
}
