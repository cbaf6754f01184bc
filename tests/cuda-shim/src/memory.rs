//! Device memory with a quota, and page-locked memory. Both are host memory, with a map of what was handed out.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::settings::{self, ALLOCATIONS};
use crate::{INVALID_VALUE, OK, OUT_OF_MEMORY, Status};

/// Start to length, layout and device.
type Map = BTreeMap<u64, (usize, Layout, usize)>;

#[derive(Default)]
struct Memory {
    device: Map,
    pinned: Map,
    used: BTreeMap<usize, u64>,
}

static MEMORY: Mutex<Memory> =
    Mutex::new(Memory { device: BTreeMap::new(), pinned: BTreeMap::new(), used: BTreeMap::new() });

fn memory() -> MutexGuard<'static, Memory> {
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn allocate(device: usize, bytes: usize) -> Result<u64, Status> {
    let nth = ALLOCATIONS.fetch_add(1, Ordering::SeqCst) + 1;
    if nth == settings::fail_alloc() || nth >= settings::fail_alloc_from() || bytes == 0 {
        return Err(if bytes == 0 { INVALID_VALUE } else { OUT_OF_MEMORY });
    }
    let mut memory = memory();
    let used = memory.used.entry(device).or_default();
    if *used + bytes as u64 > settings::memory() {
        return Err(OUT_OF_MEMORY);
    }
    *used += bytes as u64;
    let layout = Layout::from_size_align(bytes, 256).map_err(|_| OUT_OF_MEMORY)?;
    // SAFETY: the size is not zero.
    let at = unsafe { alloc(layout) };
    if at.is_null() {
        return Err(OUT_OF_MEMORY);
    }
    // What was never written is seen.
    // SAFETY: the allocation has this length.
    unsafe { at.write_bytes(0xA5, bytes) };
    memory.device.insert(at as u64, (bytes, layout, device));
    Ok(at as u64)
}

pub(crate) fn free(at: u64) -> Status {
    let mut memory = memory();
    let Some((bytes, layout, device)) = memory.device.remove(&at) else { return INVALID_VALUE };
    *memory.used.entry(device).or_default() -= bytes as u64;
    // SAFETY: it was allocated with this layout, and is no more in the map.
    unsafe { dealloc(at as *mut u8, layout) };
    OK
}

/// Bytes that are free and bytes in all.
pub(crate) fn info(device: usize) -> (u64, u64) {
    let used = memory().used.get(&device).copied().unwrap_or(0);
    (settings::memory() - used, settings::memory())
}

pub(crate) fn pin(bytes: usize) -> Result<u64, Status> {
    let layout = Layout::from_size_align(bytes.max(1), 4096).map_err(|_| INVALID_VALUE)?;
    // SAFETY: the size is not zero.
    let at = unsafe { alloc(layout) };
    if at.is_null() {
        return Err(OUT_OF_MEMORY);
    }
    memory().pinned.insert(at as u64, (bytes, layout, 0));
    Ok(at as u64)
}

pub(crate) fn unpin(at: u64) -> Status {
    match memory().pinned.remove(&at) {
        Some((_, layout, _)) => {
            // SAFETY: it was allocated with this layout, and is no more in the map.
            unsafe { dealloc(at as *mut u8, layout) };
            OK
        }
        None => INVALID_VALUE,
    }
}

fn within(map: &Map, at: u64, bytes: u64) -> bool {
    map.range(..=at).next_back().is_some_and(|(start, (len, ..))| at + bytes <= start + *len as u64)
}

/// Whether a range lies within one allocation on a device.
pub(crate) fn on_device(at: u64, bytes: u64) -> bool {
    bytes == 0 || within(&memory().device, at, bytes)
}

/// Whether a range lies within page-locked memory.
pub(crate) fn is_pinned(at: u64, bytes: u64) -> bool {
    within(&memory().pinned, at, bytes)
}
