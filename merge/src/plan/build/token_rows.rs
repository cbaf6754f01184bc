//! Token rows: no two adapters may replace the same one.

use std::collections::HashMap;

use crate::error::{Error, Kind, Result};
use crate::inventory::{ObjectId, Source};

/// Token rows that adapters replace, by parameter and row.
#[derive(Default)]
pub(super) struct TokenRows(HashMap<String, HashMap<u64, Taken>>);

/// The adapter that replaces a row, and the tensor that it comes from.
type Taken = (u16, (ObjectId, u64));

impl TokenRows {
    /// Nothing of this parameter counts any longer.
    pub(super) fn forget(&mut self, parameter: &str) {
        self.0.remove(parameter);
    }

    /// Notes the rows of an adapter. One that is given twice replaces them twice, by the same values.
    pub(super) fn take(&mut self, parameter: &str, rows: &[u64], number: u16, source: &Source) -> Result<()> {
        let place = (source.object, source.offset);
        let taken = self.0.entry(parameter.to_owned()).or_default();
        for row in rows {
            if let Some((other, from)) = taken.insert(*row, (number, place))
                && from != place
            {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("adapters {} and {} both replace row {row} of {parameter}", other + 1, number + 1),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    fn rows(object: u32) -> Source {
        Source { name: "rows".into(), object: ObjectId(object), offset: 8, dtype: Dtype::F32, shape: vec![2, 4] }
    }

    #[test]
    fn an_adapter_that_is_given_twice_is_no_conflict_and_another_one_is() {
        let mut taken = TokenRows::default();
        taken.take("embedding", &[3, 5], 0, &rows(1)).unwrap();
        taken.take("embedding", &[3, 5], 1, &rows(1)).unwrap();
        taken.take("head", &[3], 2, &rows(2)).unwrap();
        let refused = taken.take("embedding", &[5], 2, &rows(2)).unwrap_err();
        assert!(refused.kind() == Kind::Conflict && refused.message().contains("adapters 2 and 3"), "{refused}");
        taken.forget("embedding");
        taken.take("embedding", &[5], 3, &rows(2)).unwrap();
    }
}
