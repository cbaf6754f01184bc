//! How far an attempt is.

/// What an attempt has done so far, in bytes. The counters of an attempt never go back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effort {
    /// Of inputs, read.
    pub read: u64,
    /// Of tensors, fused or measured.
    pub fused: u64,
    /// Of parts, put.
    pub put: u64,
}

impl Effort {
    /// The larger of each counter.
    pub(super) fn most(self, other: Self) -> Self {
        Self { read: self.read.max(other.read), fused: self.fused.max(other.fused), put: self.put.max(other.put) }
    }
}
