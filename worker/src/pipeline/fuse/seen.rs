//! What is seen while rows are computed.

use super::effect::Effect;
use super::steps::Factors;

/// What was seen of factors and steps.
#[derive(Debug, Default)]
pub struct Seen {
    /// The factors.
    pub factors: Factors,
    /// What the steps of each adapter did.
    pub effects: Vec<Effect>,
}

impl Seen {
    /// Adds what was seen of other rows.
    pub fn append(&mut self, mut other: Seen) {
        self.factors.append(&mut other.factors);
        self.effects.append(&mut other.effects);
    }
}
