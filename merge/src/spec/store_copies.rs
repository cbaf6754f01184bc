//! `--store-copies`.

use serde::{Deserialize, Serialize};

use super::named::named;

/// Whether the store copies bytes that do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreCopies {
    /// It does where it can: from base to output in one object store and account, or on a file system that shares blocks.
    #[default]
    Auto,
    /// It does not: workers read and put every byte.
    None,
}

named!(StoreCopies { Auto = "auto", None = "none" });

impl StoreCopies {
    /// Whether it is the default, which stored specs leave out.
    pub(super) fn is_default(&self) -> bool {
        *self == StoreCopies::default()
    }
}
