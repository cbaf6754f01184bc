//! What the environment says.

use std::sync::atomic::{AtomicU64, Ordering};

/// Devices at the most.
pub(crate) const DEVICES: usize = 8;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident = $variable:literal, $default:expr;)+) => {
        $($(#[$doc])* pub(crate) fn $name() -> u64 {
            static VALUE: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
            *VALUE.get_or_init(|| number($variable, $default))
        })+
    };
}

settings! {
    devices = "CUDA_SHIM_DEVICES", 1;
    memory = "CUDA_SHIM_MEMORY", 1 << 30;
    capability = "CUDA_SHIM_CAPABILITY", 90;
    processors = "CUDA_SHIM_PROCESSORS", 132;
    driver = "CUDA_SHIM_DRIVER", 12_080;
    cublas = "CUDA_SHIM_CUBLAS", 120_804;
    delay_us = "CUDA_SHIM_DELAY_US", 0;
    /// `u64::MAX`: all of them, for a random time.
    slow_stream = "CUDA_SHIM_SLOW_STREAM", u64::MAX;
    fail_alloc = "CUDA_SHIM_FAIL_ALLOC", 0;
    fail_alloc_from = "CUDA_SHIM_FAIL_ALLOC_FROM", u64::MAX;
    illegal_at = "CUDA_SHIM_ILLEGAL_AT", 0;
    /// The k-th launch, or copy to the device, never ends.
    hang_at = "CUDA_SHIM_HANG_AT", 0;
    hang_copy_at = "CUDA_SHIM_HANG_COPY_AT", 0;
    /// The device whose launches and copies count for the three above; `u64::MAX`: every one.
    faulty_device = "CUDA_SHIM_FAULTY_DEVICE", u64::MAX;
    /// Products are summed from the last rank to the first.
    backwards = "CUDA_SHIM_BACKWARDS", 0;
    temperature = "CUDA_SHIM_TEMPERATURE", 41;
    wrong_bits = "CUDA_SHIM_WRONG_BITS", 0;
    gemm_launch = "CUDA_SHIM_GEMM_LAUNCH", 0;
}

/// What was counted.
pub(crate) static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Launches and copies to a device, by device.
pub(crate) static LAUNCHES: [AtomicU64; DEVICES] = [const { AtomicU64::new(0) }; DEVICES];
pub(crate) static COPIES: [AtomicU64; DEVICES] = [const { AtomicU64::new(0) }; DEVICES];
pub(crate) static PRODUCTS: AtomicU64 = AtomicU64::new(0);

/// Counts one more on a device; whether it is the one that is to fail.
pub(crate) fn is_due(counts: &[AtomicU64; DEVICES], device: usize, at: u64) -> bool {
    let nth = counts[device].fetch_add(1, Ordering::SeqCst) + 1;
    nth == at && (faulty_device() == u64::MAX || faulty_device() == device as u64)
}

/// When the process ends, of whatever it used.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = log;

/// Writes the counts where they are asked for.
extern "C" fn log() {
    if let Some(path) = std::env::var_os("CUDA_SHIM_LOG") {
        let count = |c: &AtomicU64| c.load(Ordering::SeqCst);
        let mut text = format!("allocations {}\nproducts {}\n", count(&ALLOCATIONS), count(&PRODUCTS));
        for device in 0..(devices() as usize).min(DEVICES) {
            text += &format!("launches on {device}: {}\n", count(&LAUNCHES[device]));
            text += &format!("copies to {device}: {}\n", count(&COPIES[device]));
        }
        #[allow(clippy::disallowed_methods, reason = "the stand-in knows no store")]
        let _ = std::fs::write(path, text);
    }
}

/// The wait before the `n`th piece of work of a stream.
pub(crate) fn delay(stream: u64, n: u64) {
    let most = delay_us();
    let wait = match slow_stream() {
        _ if most == 0 => return,
        u64::MAX => {
            // A splitmix step: the same waits in every run.
            let mut z = (stream << 32 | n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (z ^ (z >> 27)) % most
        }
        slow if slow == stream => most,
        _ => return,
    };
    std::thread::sleep(std::time::Duration::from_micros(wait));
}
