//! Our kernels by name: what they take, which memory they touch, and how they run on the host.

use std::ffi::{c_int, c_uint, c_void};

use crate::settings::{self, LAUNCHES};
use crate::{ILLEGAL_ADDRESS, NEVER, OK, Status, memory};

unsafe extern "C" {
    fn shim_kernel(kernel: c_int, blocks: c_uint, threads: c_uint, args: *const *const c_void);
}

/// Names in the order of `host.cpp`, with the size of each argument.
const KERNELS: [(&str, &[usize]); 8] = [
    ("decode", &[8, 4, 8, 8]),
    ("add", &[8, 8, 4, 8]),
    ("lanes_of_standing", &[8, 8, 8, 8]),
    ("lanes_of_original", &[8, 4, 8, 4, 8, 8, 8]),
    ("row_gains", &[8, 8, 8, 8, 8]),
    ("scale_rows", &[8, 8, 8, 8]),
    ("scale_columns", &[8, 8, 8, 8]),
    ("encode", &[8, 8, 4, 8, 8]),
];

pub(crate) fn find(name: &[u8]) -> Option<usize> {
    KERNELS.iter().position(|(known, _)| known.as_bytes() == name)
}

/// A launch with its own copy of the arguments.
pub(crate) struct Launch {
    kernel: usize,
    blocks: u32,
    threads: u32,
    args: Vec<u64>,
}

impl Launch {
    /// # Safety
    /// `args` must point to the arguments that the kernel takes.
    pub(crate) unsafe fn new(kernel: usize, blocks: u32, threads: u32, args: *const *const c_void) -> Option<Launch> {
        let sizes = KERNELS.get(kernel)?.1;
        let mut copy = vec![0u64; sizes.len()];
        for (i, size) in sizes.iter().enumerate() {
            // SAFETY: the caller's promise; a `u64` holds any of them.
            unsafe {
                let from = *args.add(i);
                std::ptr::copy_nonoverlapping(from.cast::<u8>(), copy[i..].as_mut_ptr().cast(), *size);
            }
        }
        Some(Launch { kernel, blocks, threads, args: copy })
    }

    /// The memory that the kernel touches: address and bytes.
    fn touches(&self) -> Vec<(u64, u64)> {
        let a = &self.args;
        let width = |code: u64| if code == 0 { 4 } else { 2 };
        match self.kernel {
            0 => vec![(a[0], a[3] * width(a[1])), (a[2], a[3] * 4)],
            1 => vec![(a[0], a[3] * 4), (a[1], a[3] * 4)],
            2 => vec![(a[0], a[1] * a[2] * 4), (a[3], a[1] * 128)],
            3 => {
                let n = a[4] * a[5];
                vec![(a[0], n * width(a[1])), (a[2], n * 4), (a[6], a[4] * 128)]
            }
            4 => vec![(a[0], a[3] * 128), (a[1], a[3] * 4), (a[2], a[3] * 4), (a[4], 8)],
            5 => vec![(a[0], a[2] * a[3] * 4), (a[1], a[2] * 4)],
            6 => vec![(a[0], a[2] * a[3] * 4), (a[1], a[3] * 4)],
            _ => vec![(a[0], a[3] * 4), (a[1], a[3] * width(a[2])), (a[4], 8)],
        }
    }

    pub(crate) fn run(self, device: usize) -> Status {
        // Counted once for both.
        let illegal = settings::illegal_at();
        if settings::is_due(&LAUNCHES, device, illegal.max(settings::hang_at())) {
            return if illegal > 0 { ILLEGAL_ADDRESS } else { NEVER };
        }
        if !self.touches().iter().all(|(at, bytes)| memory::on_device(*at, *bytes)) {
            return ILLEGAL_ADDRESS;
        }
        let args: Vec<*const c_void> = self.args.iter().map(|a| (&raw const *a).cast()).collect();
        // SAFETY: the arguments are the kernel's, and all memory that it touches is allocated.
        unsafe { shim_kernel(self.kernel as c_int, self.blocks, self.threads, args.as_ptr()) };
        if settings::wrong_bits() != 0 && self.kernel == KERNELS.len() - 1 && self.args[3] > 0 {
            // SAFETY: the output holds one element at least.
            unsafe { *(self.args[1] as *mut u8) ^= 1 };
        }
        OK
    }
}
