//! Tensors that must hold the same values.

use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::error::{Error, Kind, Result};
use crate::tensor::DtypeExt;

/// Two tensors that must hold the same values; checked by reading them before any work starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equal {
    /// A tensor that is merged.
    pub left: Source,
    /// The tensor that is left out because it holds the same.
    pub right: Source,
    /// Whether one is the other's transpose.
    pub transposed: bool,
    /// Why they must be equal.
    pub why: String,
}

impl Equal {
    /// Two tensors that must be equal.
    pub fn new(left: &Source, right: &Source, transposed: bool, why: impl Into<String>) -> Equal {
        Equal { left: left.clone(), right: right.clone(), transposed, why: why.into() }
    }

    /// Holds types and shapes against each other.
    ///
    /// # Errors
    /// `conflict` if the two cannot be equal, with the types and shapes of both.
    pub fn check(&self) -> Result<()> {
        let Equal { left, right, transposed, why } = self;
        let mut shape = right.shape.clone();
        if *transposed {
            shape.reverse();
        }
        if left.shape == shape && left.dtype == right.dtype {
            return Ok(());
        }
        let shown = |s: &Source| format!("{} ({} {:?})", s.name, s.dtype.name(), s.shape);
        Err(Error::new(Kind::Conflict, format!("{} and {} must be equal: {why}", shown(left), shown(right))))
    }
}
