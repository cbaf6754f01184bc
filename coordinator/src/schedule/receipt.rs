//! What a finished piece leaves.

/// What a finished piece leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The store's own name of the part.
    pub store_id: String,
    /// Its length in bytes.
    pub length: u64,
    /// The BLAKE3 chaining value of its bytes; `None` if the store copied them and nobody read them.
    pub chaining: Option<[u8; 32]>,
}

impl Receipt {
    /// Whether both may stand for the same bytes. Ids of the store may differ between two puts of the same bytes.
    pub(super) fn same_bytes(&self, other: &Self) -> bool {
        let differ = self.chaining.zip(other.chaining).is_some_and(|(ours, theirs)| ours != theirs);
        self.length == other.length && !differ
    }
}
