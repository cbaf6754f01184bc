//! How much heap one call takes, counted for each thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What every call may take, whatever its input: messages, buffers of the standard library.
const ALLOWANCE: usize = 64 << 10;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, which counts.
pub struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    // Not counted while a thread ends: its counters may be gone.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call is handed on to the system's allocator unchanged, and counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// Runs a function; panics if it takes more than `times` the bytes of its input at any moment, plus 64 KiB.
pub fn within<T>(times: usize, input: &[u8], run: impl FnOnce() -> T) -> T {
    let before = LIVE.get();
    PEAK.set(before);
    let result = run();
    let (taken, allowed) = ((PEAK.get() - before) as usize, times * input.len() + ALLOWANCE);
    assert!(taken <= allowed, "{} bytes of input took {taken} bytes of memory, {allowed} are allowed", input.len());
    result
}
