//! `--card`.

use serde::{Deserialize, Serialize};

use super::named::named;

/// Whether the output gets a model card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Card {
    /// A `README.md` that says what was merged. The base's own card is kept beside it.
    #[default]
    Auto,
    /// None is written: the base's own card travels as it is.
    None,
}

named!(Card { Auto = "auto", None = "none" });

impl Card {
    /// Whether it is the default, which stored specs leave out.
    pub(super) fn is_default(&self) -> bool {
        *self == Card::default()
    }
}
