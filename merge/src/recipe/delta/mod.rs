//! Deltas: what is added to a weight. A delta can stand in every operation that takes one.
//!
//! A delta is defined element by element, so it can be added to any rectangle of the parameter: a tile of rows, or a range
//! of columns where a right factor is too large to be in memory.

mod circulant;
mod definition;
mod dense;
mod grid;
mod hadamard;
mod kronecker;
mod low_rank;
mod sparse;

use serde::{Deserialize, Serialize};

pub use circulant::Circulant;
pub use definition::exact_product;
pub use dense::Dense;
pub use grid::Grid;
pub use hadamard::Hadamard;
pub use kronecker::Kronecker;
pub use low_rank::LowRank;
pub use sparse::Sparse;

use definition::Definition;

use super::arithmetic::Arithmetic;
use super::made::Matrices;
use super::operand::{Input, Value};
use super::tile::{ExactRows, Tile};
use crate::inventory::Source;

/// A delta.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(
    clippy::large_enum_variant,
    reason = "one for each changed parameter; their number is small beside the tensors"
)]
pub enum Delta {
    /// `scale * left @ right`.
    LowRank(LowRank),
    /// `scale * (a @ b) ∘ (c @ d)`.
    Hadamard(Hadamard),
    /// `scale * tensor`.
    Dense(Dense),
    /// `scale * outer ⊗ inner`.
    Kronecker(Box<Kronecker>),
    /// Products in a grid of blocks.
    Grid(Box<Grid>),
    /// Circulant blocks.
    Circulant(Box<Circulant>),
    /// Single values.
    Sparse(Box<Sparse>),
}

/// Calls the definition of a delta.
macro_rules! each {
    ($delta:expr, $kind:ident => $call:expr) => {
        match $delta {
            Delta::LowRank($kind) => $call,
            Delta::Hadamard($kind) => $call,
            Delta::Dense($kind) => $call,
            Delta::Kronecker($kind) => $call,
            Delta::Grid($kind) => $call,
            Delta::Circulant($kind) => $call,
            Delta::Sparse($kind) => $call,
        }
    };
}

impl Delta {
    /// What it reads.
    pub fn inputs(&self) -> Vec<Input<'_>> {
        each!(self, kind => kind.inputs())
    }

    /// The matrices that it takes.
    pub fn matrices(&self) -> Vec<Matrices<'_>> {
        each!(self, kind => kind.matrices())
    }

    /// Holds its matrices against the parameter. Each is sound by itself.
    ///
    /// # Errors
    /// What does not fit.
    pub fn fits(&self, rows: u64, cols: u64) -> Result<(), String> {
        each!(self, kind => kind.fits(rows, cols))
    }

    /// The factor that it is added with.
    pub fn scale(&self) -> f32 {
        each!(self, kind => kind.scale())
    }

    /// Inner dimensions that must agree: the tensor of the first, the one and the other.
    pub fn inner(&self) -> Vec<(&Source, u64, u64)> {
        each!(self, kind => kind.inner())
    }

    /// The definition in fp32: `w += delta`, for a rectangle of the parameter. The values are those of [`Self::inputs`], for
    /// this rectangle, and those of [`Self::matrices`].
    ///
    /// # Panics
    /// If lengths or forms do not fit.
    pub fn add<A: Arithmetic>(&self, arithmetic: &A, tile: &mut Tile<'_>, values: &[Value<'_, A::Right>]) {
        each!(self, kind => kind.add(arithmetic, tile, values));
    }

    /// The same in f64.
    ///
    /// # Panics
    /// If lengths do not fit.
    pub fn exact(&self, tile: &mut ExactRows<'_>, values: &[&[f64]]) {
        each!(self, kind => kind.exact(tile, values));
    }

    /// Fused multiply-adds for each element.
    pub fn cost(&self) -> u64 {
        each!(self, kind => kind.cost())
    }
}
