//! `--rounding`.

use serde::{Deserialize, Serialize};

use super::named::named;

/// When the sum of a weight and its deltas is rounded to the output's dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Once, after the last adapter.
    #[default]
    Once,
    /// After each adapter, as if the result had been saved before the next one was merged.
    PerAdapter,
}

named!(Rounding { Once = "once", PerAdapter = "per-adapter" });

impl Rounding {
    /// Whether it is the default, which stored specs leave out.
    pub(super) fn is_default(&self) -> bool {
        *self == Rounding::default()
    }
}
