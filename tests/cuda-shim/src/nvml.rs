//! The functions of libnvidia-ml.so.1 that are called: the same devices as the driver's, with figures of their own.

#![allow(non_snake_case, clippy::missing_safety_doc)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use crate::{OK, Status, memory, settings};

const NOT_FOUND: Status = 6;
/// A handle is the number of its device, and no null pointer.
const HANDLE: usize = 0x4000;

/// `nvmlUtilization_t`, in percent.
#[repr(C)]
pub struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// `nvmlMemory_v2_t`.
#[repr(C)]
pub struct Memory {
    version: c_uint,
    total: u64,
    reserved: u64,
    free: u64,
    used: u64,
}

fn number(device: *mut c_void) -> usize {
    device as usize - HANDLE
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlInit_v2() -> Status {
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlShutdown() -> Status {
    OK
}

/// The driver's UUIDs: a byte that says the number, over and over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, device: *mut *mut c_void) -> Status {
    // SAFETY: the caller's text ends with a zero byte.
    let text = unsafe { CStr::from_ptr(uuid) }.to_str().unwrap_or("");
    match text.strip_prefix("GPU-").and_then(|hex| u64::from_str_radix(hex.get(..2)?, 16).ok()) {
        Some(number) if text.len() == 40 && number < settings::devices() => {
            // SAFETY: the caller's pointer is valid.
            unsafe { *device = (HANDLE + number as usize) as *mut c_void };
            OK
        }
        _ => NOT_FOUND,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(_device: *mut c_void, rates: *mut Utilization) -> Status {
    // SAFETY: the caller's pointer is valid.
    unsafe { *rates = Utilization { gpu: 25, memory: 10 } };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: *mut c_void, info: *mut Memory) -> Status {
    let (free, total) = memory::info(number(device));
    // SAFETY: the caller's pointer is valid.
    unsafe {
        let version = (*info).version;
        *info = Memory { version, total, reserved: 0, free, used: total - free };
    }
    OK
}

/// Each device is a degree warmer than the one before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(device: *mut c_void, _sensor: c_int, degrees: *mut c_uint) -> Status {
    // SAFETY: the caller's pointer is valid.
    unsafe { *degrees = settings::temperature() as c_uint + number(device) as c_uint };
    OK
}
