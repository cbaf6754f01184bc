//! What the environment says.

use std::sync::atomic::{AtomicU64, Ordering};

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
    wrong_bits = "CUDA_SHIM_WRONG_BITS", 0;
    gemm_launch = "CUDA_SHIM_GEMM_LAUNCH", 0;
}

/// What was counted.
pub(crate) static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
pub(crate) static LAUNCHES: AtomicU64 = AtomicU64::new(0);
pub(crate) static PRODUCTS: AtomicU64 = AtomicU64::new(0);

/// Writes the counts where they are asked for.
pub(crate) fn log() {
    if let Some(path) = std::env::var_os("CUDA_SHIM_LOG") {
        let count = |c: &AtomicU64| c.load(Ordering::SeqCst);
        let text = format!(
            "allocations {}\nlaunches {}\nproducts {}\n",
            count(&ALLOCATIONS),
            count(&LAUNCHES),
            count(&PRODUCTS)
        );
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
