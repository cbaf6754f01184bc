//! What the store of the output can copy by itself.

/// How fine a file is cut where the store copies what does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grain {
    /// The smallest part in bytes, a power of two. A smaller one costs more requests than it saves bytes.
    pub least: u64,
}

impl Grain {
    /// For object storage: a request for each part, and no part below 5 MiB.
    pub const OBJECTS: Grain = Grain { least: 8 << 20 };
    /// For a file system, where a part costs next to nothing.
    pub const FILES: Grain = Grain { least: 1 << 20 };
}
