//! The byte budget and the buffers that it lends.
//!
//! A part asks for all it will need before it starts, so parts cannot wait for each other while holding memory. Buffers
//! are kept and lent again: fresh pages cost more than the copy that fills them.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const UNIT: u64 = 64 << 10;

/// A byte budget with reusable buffers. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    permits: Arc<Semaphore>,
    units: u32,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    keep: usize,
}

/// A share of the budget; gives it back when dropped.
#[derive(Debug)]
pub struct Share(#[allow(dead_code, reason = "held for its Drop")] OwnedSemaphorePermit);

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4);
        let keep = usize::try_from(bytes).unwrap_or(usize::MAX);
        Budget { permits: Arc::new(Semaphore::new(units as usize)), units, free: Arc::default(), keep }
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        u64::from(self.units) * UNIT
    }

    /// Bytes that are lent out.
    pub fn in_use(&self) -> u64 {
        self.bytes().saturating_sub(self.permits.available_permits() as u64 * UNIT)
    }

    /// Bytes of buffers that wait to be lent again.
    pub fn idle(&self) -> u64 {
        let free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        free.iter().map(|b| b.capacity() as u64).sum()
    }

    /// Waits for so many bytes; one that asks for more than there is gets all of it and so runs alone.
    pub async fn take(&self, bytes: u64) -> Share {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units);
        match Arc::clone(&self.permits).acquire_many_owned(units).await {
            Ok(permit) => Share(permit),
            Err(_) => unreachable!("the budget's semaphore is never closed"),
        }
    }

    /// A buffer of exactly this length with arbitrary content.
    pub fn buffer(&self, len: usize) -> Vec<u8> {
        let mut buffer = {
            let mut free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let fit =
                free.iter().enumerate().filter(|(_, b)| b.capacity() >= len && b.capacity() / 2 <= len.max(1 << 20));
            match fit.min_by_key(|(_, b)| b.capacity()).map(|(i, _)| i) {
                Some(i) => free.swap_remove(i),
                None => Vec::new(),
            }
        };
        if buffer.capacity() < len {
            buffer = vec![0; len];
        }
        buffer.resize(len, 0);
        buffer
    }

    /// Gives a buffer back.
    pub fn give(&self, buffer: Vec<u8>) {
        give(&self.free, self.keep, buffer);
    }

    /// Lends a buffer out as `Bytes`; it comes back when the last clone is dropped.
    pub fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, free: Arc::clone(&self.free), keep: self.keep })
    }
}

struct Lent {
    buffer: Vec<u8>,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    keep: usize,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        give(&self.free, self.keep, std::mem::take(&mut self.buffer));
    }
}

/// Keeps at most a quarter of the budget in idle buffers: they lie beside the shares that are lent out.
fn give(free: &Mutex<Vec<Vec<u8>>>, keep: usize, buffer: Vec<u8>) {
    if buffer.capacity() < 1 << 16 {
        return;
    }
    let mut free = free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let held: usize = free.iter().map(Vec::capacity).sum();
    if held + buffer.capacity() <= keep / 4 {
        free.push(buffer);
    }
}
