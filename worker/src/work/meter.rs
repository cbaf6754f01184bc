//! How far an attempt is, as heartbeats tell it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shardfuse_proto::v1;

/// Counters of one attempt, in bytes. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    read: AtomicU64,
    fused: AtomicU64,
    put: AtomicU64,
}

impl Meter {
    /// Counts bytes of inputs that were read.
    pub fn read(&self, bytes: u64) {
        self.0.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes of tensors that were fused or measured.
    pub fn fused(&self, bytes: u64) {
        self.0.fused.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes of parts that were put.
    pub fn put(&self, bytes: u64) {
        self.0.put.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn effort(&self) -> v1::Effort {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        v1::Effort { bytes_read: count(&self.0.read), bytes_fused: count(&self.0.fused), bytes_put: count(&self.0.put) }
    }
}
