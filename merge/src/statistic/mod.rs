//! Statistics: reductions over a whole parameter that recipes wait for.
//!
//! A statistic is computed block by block. Blocks are runs of rows, anchored at row 0 of the parameter. Each block gives a
//! state; the states, folded in the order of the blocks, give the value. The size of a block, the order within it and the
//! order of the fold fix the bits, so that any number of workers computes the same value.

pub mod block;
pub mod column_squares;
mod gains;
pub mod id;
mod kind;
mod numbers;
pub mod scales;
pub mod survival;

use serde::{Deserialize, Serialize};

pub use block::Block;
pub use gains::gains;
pub use id::StatisticId;
pub use kind::{Kind, whole};
pub use numbers::{numbers, to_bytes};

use crate::base::scheme::stored::Start;
use crate::recipe::step::Step;

/// A reduction over `start + steps`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statistic {
    /// The output parameter that waits for it.
    pub tensor: String,
    /// The weight that the steps start from.
    pub start: Start,
    /// The steps behind which it is taken.
    pub steps: Vec<Step>,
    /// Statistics that the steps themselves wait for.
    pub needs: Vec<StatisticId>,
    /// What is reduced.
    pub kind: Kind,
}

impl Statistic {
    /// Rows of a block.
    pub fn block_rows(&self) -> u64 {
        self.kind.block_rows(&self.start)
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> u32 {
        self.start.matrix().0.div_ceil(self.block_rows()) as u32
    }

    /// Bytes of a block's state, and of the value.
    pub fn bytes(&self) -> u64 {
        self.kind.bytes(self.start.matrix().1)
    }
}
