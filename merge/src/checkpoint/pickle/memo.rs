//! Values that a pickle names by number, to use them again.

use super::refuse::bad;
use super::value::Value;
use crate::error::Result;

/// The most entries: some ten a tensor.
const MAX_MEMO: usize = 1 << 22;

/// The values by their numbers.
#[derive(Default)]
pub(super) struct Memo<'a> {
    values: Vec<Option<Value<'a>>>,
    set: usize,
}

impl<'a> Memo<'a> {
    /// The number that MEMOIZE gives: as many are set.
    pub(super) fn next(&self) -> usize {
        self.set
    }

    pub(super) fn get(&self, index: u32) -> Result<Value<'a>> {
        let value = self.values.get(index as usize).copied().flatten();
        value.ok_or_else(|| bad(format!("memo {index} is not set")))
    }

    /// Sets a value. `read` bytes of the pickle have been read.
    pub(super) fn put(&mut self, index: usize, value: Value<'a>, read: usize) -> Result<()> {
        // Memos are numbered from zero and take a byte each at least: a higher index would only claim memory.
        if index >= MAX_MEMO || index >= read {
            return Err(bad(format!("memo {index} is out of bounds")));
        }
        if self.values.len() <= index {
            self.values.resize(index + 1, None);
        }
        if self.values[index].replace(value).is_none() {
            self.set += 1;
        }
        Ok(())
    }
}
