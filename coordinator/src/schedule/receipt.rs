//! What a finished piece leaves.

/// What a finished piece leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The store's own name of the part.
    pub store_id: String,
    /// Its length in bytes.
    pub length: u64,
    /// The BLAKE3 chaining value of its bytes.
    pub chaining: [u8; 32],
}

impl Receipt {
    /// Whether both stand for the same bytes. Ids of the store may differ between two puts of the same bytes.
    pub(super) fn same_bytes(&self, other: &Self) -> bool {
        (self.length, self.chaining) == (other.length, other.chaining)
    }
}
