//! The functions of libcuda.so.1 that are called.

#![allow(non_snake_case, clippy::missing_safety_doc)]

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::kernels::{self, Launch};
use crate::settings::COPIES;
use crate::streams::{Event, Stream, sticky};
use crate::{
    ILLEGAL_ADDRESS, INVALID_DEVICE, INVALID_VALUE, NEVER, NO_DEVICE, NOT_FOUND, NOT_READY, OK, OUT_OF_MEMORY, Status,
    memory, settings,
};

/// Functions of a dead context answer with what it died of.
macro_rules! driver {
    ($($name:ident($($arg:ident: $type:ty),*) $body:block)*) => { $(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> Status {
            let dead = sticky(current());
            if dead != OK {
                return dead;
            }
            // SAFETY: the callers' promise: pointers are valid, handles are ours and live.
            #[allow(unused_unsafe)]
            unsafe { $body }
        }
    )* };
}

/// Streams that live. A thread that waits for one keeps it while another destroys it.
static STREAMS: Mutex<Vec<Arc<Stream>>> = Mutex::new(Vec::new());

fn streams() -> MutexGuard<'static, Vec<Arc<Stream>>> {
    STREAMS.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local!(static CURRENT: Cell<*mut c_void> = const { Cell::new(std::ptr::null_mut()) });

/// A context is the number of its device, and no null pointer.
const CONTEXT: usize = 0x1000;

fn current() -> usize {
    (CURRENT.get() as usize).saturating_sub(CONTEXT)
}

/// Waits for all that is queued on the current device.
fn finish() {
    let all = streams().clone();
    for stream in all.iter().filter(|stream| stream.device == current()) {
        stream.flush();
    }
}

pub(crate) unsafe fn stream<'a>(handle: *mut c_void) -> &'a Stream {
    // SAFETY: the handle is one of `cuStreamCreate`'s; the default stream is not used.
    unsafe { &*handle.cast::<Stream>() }
}

unsafe fn event(handle: *mut c_void) -> Arc<Event> {
    let at = handle.cast::<Event>().cast_const();
    // SAFETY: the handle is one of `cuEventCreate`'s, which holds a count.
    unsafe {
        Arc::increment_strong_count(at);
        Arc::from_raw(at)
    }
}

fn copy(to: u64, from: u64, bytes: u64, check: impl Fn() -> bool) -> Status {
    if !check() {
        return ILLEGAL_ADDRESS;
    }
    // SAFETY: the check says that both ranges are allocated.
    unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes as usize) };
    OK
}

driver! {
    cuInit(_flags: c_uint) { if settings::devices() == 0 { NO_DEVICE } else { OK } }
    cuDriverGetVersion(version: *mut c_int) { *version = settings::driver() as c_int; OK }
    cuDeviceGetCount(count: *mut c_int) { *count = settings::devices() as c_int; OK }
    cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        if (ordinal as u64) < settings::devices() { *device = ordinal; OK } else { INVALID_DEVICE }
    }
    cuDeviceGetName(name: *mut c_char, len: c_int, _device: c_int) {
        let text = c"CUDA stand-in for tests".to_bytes_with_nul();
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), name, text.len().min(len as usize));
        OK
    }
    cuDeviceGetUuid(uuid: *mut [u8; 16], device: c_int) { *uuid = [device as u8; 16]; OK }
    cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, _device: c_int) {
        *value = match attribute {
            75 => settings::capability() as c_int / 10,
            76 => settings::capability() as c_int % 10,
            16 => settings::processors() as c_int,
            _ => 0,
        };
        OK
    }
    cuDevicePrimaryCtxRetain(context: *mut *mut c_void, device: c_int) {
        *context = (CONTEXT + device as usize) as *mut c_void;
        OK
    }
    cuDevicePrimaryCtxRelease_v2(_device: c_int) { OK }
    cuCtxGetCurrent(context: *mut *mut c_void) { *context = CURRENT.get(); OK }
    cuCtxSetCurrent(context: *mut c_void) { CURRENT.set(context); OK }
    cuCtxSynchronize() {
        finish();
        sticky(current())
    }
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let (f, t) = memory::info(current());
        (*free, *total) = (f as usize, t as usize);
        OK
    }
    cuMemAlloc_v2(at: *mut u64, bytes: usize) {
        match memory::allocate(current(), bytes) { Ok(a) => { *at = a; OK } Err(e) => e }
    }
    // As the driver's: it waits for all that is queued.
    cuMemFree_v2(at: u64) {
        finish();
        memory::free(at)
    }
    cuMemHostAlloc(at: *mut *mut c_void, bytes: usize, _flags: c_uint) {
        match memory::pin(bytes) { Ok(a) => { *at = a as *mut c_void; OK } Err(e) => e }
    }
    cuMemFreeHost(at: *mut c_void) { memory::unpin(at as u64) }
    cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, on: *mut c_void) {
        let (from, n, device) = (from as u64, bytes as u64, stream(on).device);
        let due = move || settings::is_due(&COPIES, device, settings::hang_copy_at());
        if memory::is_pinned(from, n) {
            stream(on).push(Box::new(move || {
                if due() { NEVER } else { copy(to, from, n, || memory::on_device(to, n) && memory::is_pinned(from, n)) }
            }))
        } else {
            let taken = std::slice::from_raw_parts(from as *const u8, bytes).to_vec();
            stream(on).push(Box::new(move || {
                if due() { NEVER } else { copy(to, taken.as_ptr() as u64, n, || memory::on_device(to, n)) }
            }))
        }
    }
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, on: *mut c_void) {
        let (to, n) = (to as u64, bytes as u64);
        let pinned = memory::is_pinned(to, n);
        let queued = stream(on).push(Box::new(move || {
            copy(to, from, n, || memory::on_device(from, n) && (!pinned || memory::is_pinned(to, n)))
        }));
        if pinned { queued } else { stream(on).flush() }
    }
    cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, on: *mut c_void) {
        let n = bytes as u64;
        stream(on).push(Box::new(move || copy(to, from, n, || memory::on_device(to, n) && memory::on_device(from, n))))
    }
    cuMemsetD8Async(at: u64, value: u8, bytes: usize, on: *mut c_void) {
        stream(on).push(Box::new(move || {
            if !memory::on_device(at, bytes as u64) {
                return ILLEGAL_ADDRESS;
            }
            // SAFETY: the range is allocated.
            unsafe { std::ptr::write_bytes(at as *mut u8, value, bytes) };
            OK
        }))
    }
    cuStreamCreate(handle: *mut *mut c_void, _flags: c_uint) {
        let stream = Arc::new(Stream::new(current()));
        *handle = Arc::as_ptr(&stream).cast_mut().cast();
        streams().push(stream);
        OK
    }
    cuStreamDestroy_v2(handle: *mut c_void) {
        stream(handle).flush();
        streams().retain(|stream| Arc::as_ptr(stream).cast_mut().cast() != handle);
        OK
    }
    cuStreamSynchronize(handle: *mut c_void) { stream(handle).flush() }
    cuStreamWaitEvent(handle: *mut c_void, on: *mut c_void, _flags: c_uint) {
        let on = event(on);
        let record = on.latest();
        stream(handle).push_always(Box::new(move || { on.wait(record); OK }))
    }
    cuEventCreate(handle: *mut *mut c_void, _flags: c_uint) {
        *handle = Arc::into_raw(Arc::new(Event::default())).cast_mut().cast();
        OK
    }
    cuEventDestroy_v2(handle: *mut c_void) { drop(Arc::from_raw(handle.cast::<Event>().cast_const())); OK }
    cuEventRecord(handle: *mut c_void, on: *mut c_void) { event(handle).record(stream(on)) }
    cuEventSynchronize(handle: *mut c_void) {
        let e = event(handle);
        e.wait(e.latest());
        sticky(current())
    }
    cuEventQuery(handle: *mut c_void) { if event(handle).is_passed() { OK } else { NOT_READY } }
    cuEventElapsedTime(milliseconds: *mut f32, from: *mut c_void, to: *mut c_void) {
        match event(from).until(&event(to)) { Some(time) => { *milliseconds = time; OK } None => NOT_READY }
    }
    cuModuleLoadData(module: *mut *mut c_void, image: *const c_char) {
        // PTX is text that begins with a comment or a directive.
        let text = CStr::from_ptr(image).to_bytes();
        if !text.windows(8).any(|w| w == b".version") {
            return 200;
        }
        *module = 0x2000 as *mut c_void;
        OK
    }
    cuModuleUnload(_module: *mut c_void) { OK }
    cuModuleGetFunction(function: *mut *mut c_void, _module: *mut c_void, name: *const c_char) {
        match kernels::find(CStr::from_ptr(name).to_bytes()) {
            Some(number) => { *function = (0x3000 + number) as *mut c_void; OK }
            None => NOT_FOUND,
        }
    }
    cuLaunchKernel(
        function: *mut c_void, gx: c_uint, gy: c_uint, gz: c_uint, bx: c_uint, by: c_uint, bz: c_uint, _shared: c_uint,
        on: *mut c_void, args: *mut *mut c_void, _extra: *mut *mut c_void
    ) {
        if (gy, gz, by, bz) != (1, 1, 1, 1) || gx == 0 || bx == 0 || bx > 1024 {
            return INVALID_VALUE;
        }
        match Launch::new((function as usize).wrapping_sub(0x3000), gx, bx, args.cast_const().cast()) {
            Some(launch) => {
                let device = stream(on).device;
                stream(on).push(Box::new(move || launch.run(device)))
            }
            None => INVALID_VALUE,
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(status: Status, name: *mut *const c_char) -> Status {
    let text = match status {
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        NO_DEVICE => c"CUDA_ERROR_NO_DEVICE",
        ILLEGAL_ADDRESS => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        NOT_FOUND => c"CUDA_ERROR_NOT_FOUND",
        _ => c"CUDA_ERROR_UNKNOWN",
    };
    // SAFETY: the caller's pointer is valid.
    unsafe { *name = text.as_ptr() };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(status: Status, text: *mut *const c_char) -> Status {
    let words = match status {
        OUT_OF_MEMORY => c"out of memory",
        NO_DEVICE => c"no CUDA-capable device is detected",
        ILLEGAL_ADDRESS => c"an illegal memory access was encountered",
        NOT_FOUND => c"named symbol not found",
        _ => c"unknown error",
    };
    // SAFETY: the caller's pointer is valid.
    unsafe { *text = words.as_ptr() };
    OK
}
