//! How one output parameter is computed.
//!
//! Every parameter is a matrix `[rows, cols]` ([`crate::tensor::matrix`]). A recipe is either a copy of bytes, or a start and
//! an ordered list of steps in fp32 with one rounding at the end.
//!
//! The bytes of a merge must not depend on who computed them: not on the instruction set, the number of threads or the
//! worker. So every operation ([`op`]) and every delta ([`delta`]) is defined once, over primitives ([`arithmetic`]) that
//! are written in plain Rust. Faster primitives are held against these bit by bit. The rules:
//!
//! - Values are upcast to fp32 ([`crate::tensor::float`]), which is exact, and all steps are applied in fp32.
//! - Each element's chain of operations has a fixed order; it is never split, because fp32 addition is not associative.
//! - Reductions are in f64 with a fixed shape ([`op::norm`], [`crate::statistic`]), so that cutting a tensor among workers
//!   changes nothing.
//! - The result is rounded once, to nearest even, and before that only where a recipe says so ([`Round`]). A value that the
//!   dtype cannot hold is an error.
//!
//! What a step reads is declared by the operation ([`operand::Input`]). What a part must read, how much memory it holds and
//! what an assignment may contain all follow from that. [`reference`](mod@reference) runs a recipe in memory by its
//! definition; [`exact`] is the same in f64, for judging an output.
//!
//! Several functions are `#[inline(always)]` for one reason: a caller that is compiled for a wider instruction set gets
//! them compiled for it too. The operations are those of IEEE 754 either way, so the bits do not change.

use serde::{Deserialize, Serialize};

pub mod arithmetic;
pub mod bytes;
pub mod check;
pub mod delta;
pub mod exact;
mod fuse;
pub mod made;
pub mod op;
pub mod operand;
pub mod reference;
mod requantise;
pub(crate) mod step;
pub(crate) mod tile;

#[cfg(test)]
mod tests;

pub use delta::{Circulant, Delta, Dense, Grid, Hadamard, Kronecker, LowRank, Sparse};
pub use fuse::Fuse;
pub use made::{Form, Made, Matrices};
pub use op::{Add, Along, Dora, DoraNorm, Mix, Modulate, Norm, Op, Reflect, Round, Scale, SetRows, Shuffle};
pub use operand::{Input, Need, Operand, Value};
pub use requantise::Requantise;
pub use step::{Step, sources, statistics};

pub use crate::base::scheme::stored::{Span, Start};

use crate::inventory::Source;
use crate::statistic::id::StatisticId;
use crate::tensor::Dtype;

/// How one output parameter is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Recipe {
    /// The bytes of the source.
    Copy(Source),
    /// Computed.
    Fuse(Fuse),
    /// Computed, and encoded as the base stores it.
    Requantise(Box<Requantise>),
}

impl Recipe {
    /// How its values are computed, if they are.
    pub fn fuse(&self) -> Option<&Fuse> {
        match self {
            Recipe::Copy(_) => None,
            Recipe::Fuse(fuse) => Some(fuse),
            Recipe::Requantise(requantise) => Some(&requantise.fuse),
        }
    }

    fn steps(&self) -> &[Step] {
        self.fuse().map_or(&[], |fuse| &fuse.steps)
    }

    /// Every stored tensor that it reads.
    pub fn sources(&self) -> Vec<&Source> {
        self.starts().iter().chain(sources(self.steps())).collect()
    }

    /// The statistics that its values wait for.
    pub fn statistics(&self) -> impl Iterator<Item = StatisticId> {
        let range = match self {
            Recipe::Requantise(requantise) => requantise.range,
            Recipe::Copy(_) | Recipe::Fuse(_) => None,
        };
        let start = self.fuse().and_then(|fuse| fuse.start.statistic());
        start.into_iter().chain(statistics(self.steps())).chain(range)
    }

    /// The stored tensors that it starts from.
    pub fn starts(&self) -> &[Source] {
        match self {
            Recipe::Copy(source) => std::slice::from_ref(source),
            Recipe::Fuse(fuse) => fuse.start.tensors(),
            Recipe::Requantise(requantise) => requantise.fuse.start.tensors(),
        }
    }

    /// The shape of the tensor that it makes.
    pub fn dims(&self) -> &[u64] {
        match self {
            Recipe::Copy(source) => &source.shape,
            Recipe::Fuse(fuse) => fuse.start.dims(),
            Recipe::Requantise(requantise) => requantise.source().map_or(&[], |source| &source.shape),
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
    /// How it is computed.
    pub recipe: Recipe,
    /// What it is a portion of, if it is not a whole tensor. The portions of a tensor lie one after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portion: Option<Portion>,
}

/// The tensor that something is a portion of. Each portion is a matrix with a recipe of its own, such as one expert of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portion {
    /// The shape of the whole tensor.
    pub of: Vec<u64>,
    /// The number of the portion's first row, where the last dimension are columns.
    pub first: u64,
}

impl Placed {
    /// The shape of the whole tensor, if this is a tensor or the first portion of one.
    pub fn begins(&self) -> Option<&[u64]> {
        match &self.portion {
            None => Some(&self.shape),
            Some(portion) => (portion.first == 0).then_some(&portion.of),
        }
    }
}
