//! The stack of the machine, and the marks that fence off its lower part.

use super::refuse::bad;
use super::value::Value;
use crate::error::Result;

/// The deepest nesting of marks. A state dict needs four.
const MAX_MARKS: usize = 256;
/// The most values on the stack; pickle flushes containers every thousand.
const MAX_STACK: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Stack<'a> {
    values: Vec<Value<'a>>,
    /// Heights of the stack; what lies below the last one is out of reach.
    marks: Vec<usize>,
}

impl<'a> Stack<'a> {
    pub(super) fn push(&mut self, value: Value<'a>) -> Result<()> {
        if self.values.len() == MAX_STACK {
            return Err(bad(format!("more than {MAX_STACK} values on the stack")));
        }
        self.values.push(value);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<Value<'a>> {
        let value = self.top()?;
        self.values.pop();
        Ok(value)
    }

    pub(super) fn top(&self) -> Result<Value<'a>> {
        self.values[self.floor()..].last().copied().ok_or_else(underflow)
    }

    pub(super) fn mark(&mut self) -> Result<()> {
        if self.marks.len() == MAX_MARKS {
            return Err(bad(format!("nested more than {MAX_MARKS} deep")));
        }
        self.marks.push(self.values.len());
        Ok(())
    }

    /// Removes the last mark; how many values lie above it.
    pub(super) fn unmark(&mut self) -> Result<usize> {
        let height = self.marks.pop().ok_or_else(|| bad("an opcode that needs a MARK has none"))?;
        Ok(self.values.len() - height)
    }

    /// The uppermost `count` values.
    pub(super) fn upper(&self, count: usize) -> Result<&[Value<'a>]> {
        let from = self.values.len().checked_sub(count).filter(|from| *from >= self.floor()).ok_or_else(underflow)?;
        Ok(&self.values[from..])
    }

    /// Removes values that [`Stack::upper`] has shown.
    pub(super) fn drop_upper(&mut self, count: usize) {
        self.values.truncate(self.values.len().saturating_sub(count));
    }

    /// The only value, when all is done.
    pub(super) fn only(&self) -> Result<Value<'a>> {
        match (self.values.as_slice(), self.marks.len()) {
            ([root], 0) => Ok(*root),
            (values, marks) => Err(bad(format!("STOP with {} values and {marks} marks on the stack", values.len()))),
        }
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }
}

fn underflow() -> crate::error::Error {
    bad("an opcode takes more than the stack holds")
}
