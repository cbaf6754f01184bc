//! Rows that are equally far apart.

use crate::tensor::View;

/// Rows of a module's weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// The first.
    pub first: u64,
    /// From one to the next.
    pub step: u64,
    /// How many they are.
    pub count: u64,
}

impl Lines {
    /// These rows of a view.
    pub fn of(&self, view: View) -> View {
        view.every(self.first, self.step, self.count)
    }
}
