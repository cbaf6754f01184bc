//! Who reads for a part or a block.

use super::inputs::Inputs;
use super::values::Statistics;
use crate::pipeline::shared::Shared;

/// What reading for one assignment takes. Its methods are in `operands` and `statistics`.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// What all assignments share.
    pub shared: &'a Shared,
    /// The assignment's inputs.
    pub inputs: &'a Inputs,
    /// The values of its statistics.
    pub statistics: &'a Statistics,
}
