//! Statistics: reductions over a whole parameter that recipes wait for.
//!
//! A statistic is computed block by block. Blocks are runs of rows, anchored at row 0 of the parameter. Each block gives a
//! state; the states, folded in the order of the blocks, give the value. The size of a block, the order within it and the
//! order of the fold fix the bits, so that any number of workers computes the same value.

pub mod column_squares;
pub mod id;
mod kind;

use serde::{Deserialize, Serialize};

pub use id::StatisticId;
pub use kind::{Kind, numbers, to_bytes};

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
