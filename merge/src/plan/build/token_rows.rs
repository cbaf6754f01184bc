//! Token rows: no two adapters may replace the same one.

use std::collections::HashMap;

use crate::error::{Error, Kind, Result};

/// Token rows that adapters replace, by parameter and row.
#[derive(Default)]
pub(super) struct TokenRows(HashMap<String, HashMap<u64, u16>>);

impl TokenRows {
    /// Nothing of this parameter counts any longer.
    pub(super) fn forget(&mut self, parameter: &str) {
        self.0.remove(parameter);
    }

    /// Notes the rows of an adapter.
    pub(super) fn take(&mut self, parameter: &str, rows: &[u64], number: u16) -> Result<()> {
        let taken = self.0.entry(parameter.to_owned()).or_default();
        for row in rows {
            if let Some(other) = taken.insert(*row, number) {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("adapters {} and {} both replace row {row} of {parameter}", other + 1, number + 1),
                ));
            }
        }
        Ok(())
    }
}
