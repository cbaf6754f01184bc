//! Right factors on the device, kept while neighbouring parts need them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::blas::Matrix;
use super::memory::Buffer;

/// What a factor is known by: the object's URL and pin, and the offset in it.
pub type Key = (Arc<str>, Arc<str>, u64);

/// A right factor, or its transpose, in fp32.
#[derive(Debug)]
pub struct Right {
    buffer: Buffer,
    transposed: bool,
    zero: bool,
}

impl Right {
    pub(super) fn new(buffer: Buffer, transposed: bool, zero: bool) -> Self {
        Right { buffer, transposed, zero }
    }

    pub(super) fn matrix(&self) -> Matrix {
        Matrix { at: self.buffer.at(0, self.buffer.bytes()), transposed: self.transposed }
    }

    /// Whether all of its values are zero.
    pub fn zero(&self) -> bool {
        self.zero
    }
}

#[derive(Debug, Default)]
struct Kept {
    factors: HashMap<Key, (Arc<Right>, u64)>,
    clock: u64,
    bytes: u64,
}

/// Kept factors, least recently used out first.
#[derive(Debug)]
pub(super) struct Rights {
    kept: Mutex<Kept>,
    /// Bytes that all of them may take.
    limit: u64,
}

impl Rights {
    /// Room for so many bytes.
    pub(super) fn new(limit: u64) -> Self {
        Rights { kept: Mutex::default(), limit }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Right>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let now = kept.clock;
        kept.factors.get_mut(key).map(|slot| {
            slot.1 = now;
            Arc::clone(&slot.0)
        })
    }

    /// Whether so many bytes more are within the limit.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes.saturating_add(bytes) <= self.limit
    }

    pub(super) fn put(&self, key: Key, right: &Arc<Right>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let now = kept.clock;
        kept.bytes += right.buffer.bytes() as u64;
        if let Some((old, _)) = kept.factors.insert(key, (Arc::clone(right), now)) {
            kept.bytes -= old.buffer.bytes() as u64;
        }
    }

    /// Frees the factor that was idle for the longest time. False if none is idle. Waits for the device.
    pub(super) fn evict(&self) -> bool {
        // Freed once the lock is given back: nobody who only looks for a factor waits for the device.
        let idle = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take_idle();
        idle.is_some()
    }
}

impl Kept {
    fn take_idle(&mut self) -> Option<Arc<Right>> {
        let idle = self.factors.iter().filter(|(_, (right, _))| Arc::strong_count(right) == 1);
        let oldest = idle.min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone())?;
        let (right, _) = self.factors.remove(&oldest)?;
        self.bytes -= right.buffer.bytes() as u64;
        Some(right)
    }
}
