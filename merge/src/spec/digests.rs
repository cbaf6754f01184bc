//! `--digests`.

use serde::{Deserialize, Serialize};

use super::named::named;

/// Which digests the manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Digests {
    /// Those that are known without reading what the store copies.
    #[default]
    Known,
    /// All of them: what the store copies is read, too.
    Complete,
}

named!(Digests { Known = "known", Complete = "complete" });

impl Digests {
    /// Whether it is the default, which stored specs leave out.
    pub(super) fn is_default(&self) -> bool {
        *self == Digests::default()
    }
}
