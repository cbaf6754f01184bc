//! Which version of an object is read.

use std::sync::Arc;

use shardfuse_store::Pin;

/// An object and the version of it that is read. Entries of the caches are told apart by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version {
    /// The object's URL.
    pub url: Arc<str>,
    /// The version.
    pub pin: Pin,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url)
    }
}
