//! `--quantised`: what becomes of the quantised parameters of a base.

use serde::{Deserialize, Serialize};

use super::named::named;

/// What becomes of quantised parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantised {
    /// They are copied as they are stored.
    #[default]
    Keep,
    /// All are written as floats, and the output is not quantised.
    Dequantise,
    /// What an adapter changes is encoded again in the form in which it is stored; all others are copied.
    Requantise,
}

impl Quantised {
    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == Quantised::Keep
    }
}

named!(Quantised { Keep = "keep", Dequantise = "dequantise", Requantise = "requantise" });
