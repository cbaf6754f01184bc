//! What is the same for all tiles of a tensor that is computed on this machine's CPU.

use super::blame::Blame;
use crate::device::cpu::Kernels;

/// What tiles of a tensor are computed with.
#[derive(Debug, Clone)]
pub struct Context {
    /// What computes.
    pub kernels: Kernels,
    /// What a failure names.
    pub blame: Blame,
    /// Columns of the tensor.
    pub cols: usize,
}
