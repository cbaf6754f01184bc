//! A module of one expert, in a base that stacks the experts.

use super::edit::RowRange;
use super::rename::candidates;
use crate::base::names::Names;
use crate::error::{Error, Kind, Result};

/// The stacked tensor that holds a module's weight, and the rows of it.
///
/// # Errors
/// `shape_mismatch` if there is no such expert, or its rows have no such parts.
pub(super) fn one_of_stacked(module: &str, base: &Names<'_>) -> Result<Option<(String, RowRange)>> {
    for path in candidates(module) {
        let Some(member) = base.member(&format!("{path}.weight")) else { continue };
        let Some(tensor) = base.stored(&member.parameter) else { continue };
        let Some([experts, rows, cols]) = base.shape(&tensor).and_then(|shape| shape.first_chunk::<3>()).copied()
        else {
            continue;
        };
        let parts = member.parts as u64;
        if member.expert >= experts || rows % parts != 0 {
            let shape = [experts, rows, cols];
            let text = format!("{module} is expert {} and {tensor} has the shape {shape:?}", member.expert);
            return Err(Error::new(Kind::ShapeMismatch, text));
        }
        let count = rows / parts;
        let first = member.expert * rows + member.part as u64 * count;
        return Ok(Some((tensor, RowRange { first, count, cols })));
    }
    Ok(None)
}
