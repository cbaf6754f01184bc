//! A stand-in for the CUDA driver and cuBLAS, for tests: see README.md.
//!
//! | module | what |
//! |---|---|
//! | `settings` | the environment variables |
//! | `memory` | allocations and their bounds |
//! | `streams` | streams and events |
//! | `kernels` | our kernels by name |
//! | `driver` | the functions of libcuda.so.1 |
//! | `blas` | those of libcublas |
//! | `nvml` | those of libnvidia-ml.so.1 |

#[cfg_attr(feature = "without-gemm", allow(dead_code, unused_imports, reason = "they are the product's"))]
mod blas;
mod driver;
mod kernels;
mod memory;
mod nvml;
#[cfg_attr(feature = "without-gemm", allow(dead_code, reason = "one of them is the product's"))]
mod settings;
mod streams;

/// `CUresult`.
type Status = std::ffi::c_int;

const OK: Status = 0;
const INVALID_VALUE: Status = 1;
const OUT_OF_MEMORY: Status = 2;
const NO_DEVICE: Status = 100;
const INVALID_DEVICE: Status = 101;
const NOT_FOUND: Status = 500;
const NOT_READY: Status = 600;
const ILLEGAL_ADDRESS: Status = 700;
/// What work answers that is never done.
const NEVER: Status = -1;
