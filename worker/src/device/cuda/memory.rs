//! Device memory and page-locked host memory, owned.
//!
//! Both are plain allocations without the events that cudarc's slices carry: what waits for what is said in one place, the
//! ring (`super::ring`).

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::CudaStream;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::CUdeviceptr;

use super::card::Card;

/// Device memory. Freeing it waits for the device, so nothing that is under way loses it; it is not freed where the device
/// does not answer any more.
#[derive(Debug)]
pub struct Buffer {
    at: CUdeviceptr,
    bytes: usize,
    card: Arc<Card>,
}

impl Buffer {
    /// So many bytes, with arbitrary content, aligned to 256.
    pub(super) fn new(card: &Arc<Card>, bytes: usize) -> Result<Self, DriverError> {
        card.context().bind_to_thread()?;
        // SAFETY: the context is current; the memory is not read before it is written.
        let at = card.during(|| unsafe { result::malloc_sync(bytes.max(256)) })?;
        Ok(Buffer { at, bytes, card: Arc::clone(card) })
    }

    /// Its length in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address `offset` bytes into it, of `bytes` bytes that must lie within.
    pub(super) fn at(&self, offset: usize, bytes: usize) -> CUdeviceptr {
        assert!(
            offset.checked_add(bytes).is_some_and(|end| end <= self.bytes),
            "{bytes} bytes at {offset} of {} on the device",
            self.bytes
        );
        self.at + offset as u64
    }

    /// Sets the first `bytes` bytes, in the order of the stream.
    pub(super) fn fill(&self, value: u8, bytes: usize, stream: &CudaStream) -> Result<(), DriverError> {
        // SAFETY: the range lies within the allocation (`at` checks it), and the stream is of the same context.
        unsafe { result::memset_d8_async(self.at(0, bytes), value, bytes, stream.cu_stream()) }
    }

    /// Copies from page-locked memory, in the order of the stream.
    pub(super) fn load<T>(
        &self,
        from: &Pinned<T>,
        range: std::ops::Range<usize>,
        stream: &CudaStream,
    ) -> Result<(), DriverError> {
        let offset = range.start * size_of::<T>();
        let from = &from.as_slice()[range];
        // SAFETY: both ranges lie within their allocations. The ring does not touch either until the stream is past this.
        unsafe { result::memcpy_htod_async(self.at(offset, size_of_val(from)), from, stream.cu_stream()) }
    }

    /// Copies from ordinary memory to `offset`, in the order of the stream. When it returns, `from` is no more needed: the
    /// driver has taken it.
    pub(super) fn load_now(&self, offset: usize, from: &[f32], stream: &CudaStream) -> Result<(), DriverError> {
        self.card.context().bind_to_thread()?;
        let to = self.at(offset, size_of_val(from));
        self.card.during(|| {
            // SAFETY: the range lies within the allocation. The stream is synchronised before `from` can be given back.
            unsafe { result::memcpy_htod_async(to, from, stream.cu_stream()) }?;
            stream.synchronize()
        })
    }

    /// Copies the first bytes to page-locked memory, in the order of the stream.
    pub(super) fn store<T>(&self, to: &mut Pinned<T>, count: usize, stream: &CudaStream) -> Result<(), DriverError> {
        let to = &mut to.as_mut_slice()[..count];
        // SAFETY: as in `load`.
        unsafe { result::memcpy_dtoh_async(to, self.at(0, size_of_val(to)), stream.cu_stream()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.card.is_silent() {
            return;
        }
        // A device that is gone has nothing left to free, and says so: that is no news here.
        let _ = self.card.context().bind_to_thread();
        // SAFETY: the address is `new`'s and is freed once.
        let _ = self.card.during(|| unsafe { result::free_sync(self.at) });
    }
}

/// A type of which any bytes are a value.
pub(super) trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for u64 {}
impl Plain for f32 {}

/// Page-locked host memory: the device copies to and from it on its own.
#[derive(Debug)]
pub(super) struct Pinned<T> {
    at: *mut T,
    len: usize,
    card: Arc<Card>,
}

// SAFETY: it owns its memory, as a `Box<[T]>` does.
unsafe impl<T: Send> Send for Pinned<T> {}

impl<T: Plain> Pinned<T> {
    /// So many values, all bytes zero. Cached, since the host reads it too.
    pub(super) fn new(card: &Arc<Card>, len: usize) -> Result<Self, DriverError> {
        card.context().bind_to_thread()?;
        // SAFETY: the context is current.
        let at = unsafe { result::malloc_host(len.max(1) * size_of::<T>(), 0) }?.cast::<T>();
        // SAFETY: the allocation has this length, and page-aligned memory is aligned for `T`.
        unsafe { at.write_bytes(0, len) };
        Ok(Pinned { at, len, card: Arc::clone(card) })
    }
}

impl<T> Pinned<T> {
    /// The values.
    pub(super) fn as_slice(&self) -> &[T] {
        // SAFETY: `new` initialised all of it, and any bytes are a value of `T`.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }

    /// The values, to be changed.
    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        if self.card.is_silent() {
            return;
        }
        let _ = self.card.context().bind_to_thread();
        // SAFETY: the address is `new`'s and is freed once.
        let _ = unsafe { result::free_host(self.at.cast::<c_void>()) };
    }
}
