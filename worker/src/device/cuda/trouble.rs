//! What the driver or cuBLAS answers instead of success.

use cudarc::cublas::sys::cublasStatus_t;
use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

use super::library::Status;

/// The answers of cuBLAS that have a name.
const NAMED: [cublasStatus_t; 9] = [
    cublasStatus_t::CUBLAS_STATUS_NOT_INITIALIZED,
    cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED,
    cublasStatus_t::CUBLAS_STATUS_INVALID_VALUE,
    cublasStatus_t::CUBLAS_STATUS_ARCH_MISMATCH,
    cublasStatus_t::CUBLAS_STATUS_MAPPING_ERROR,
    cublasStatus_t::CUBLAS_STATUS_EXECUTION_FAILED,
    cublasStatus_t::CUBLAS_STATUS_INTERNAL_ERROR,
    cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
    cublasStatus_t::CUBLAS_STATUS_LICENSE_ERROR,
];

/// A refusal of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no memory left on it. It works on.
    Full,
    /// Anything else. Most such errors stay with the context for ever, so the device is not used again.
    Lost(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Full => f.write_str("its memory is full"),
            Trouble::Lost(why) => f.write_str(why),
        }
    }
}

impl From<DriverError> for Trouble {
    fn from(e: DriverError) -> Self {
        if e.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return Trouble::Full;
        }
        let text = |r: Result<&std::ffi::CStr, DriverError>| r.map(|s| s.to_string_lossy().into_owned());
        match (text(e.error_name()), text(e.error_string())) {
            (Ok(name), Ok(what)) => Trouble::Lost(format!("{what} ({name})")),
            _ => Trouble::Lost(format!("the driver's error {}", e.0 as u32)),
        }
    }
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        match NAMED.iter().find(|named| **named as u32 == status.0) {
            Some(cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED) => Trouble::Full,
            Some(named) => Trouble::Lost(format!("cuBLAS answers {named:?}")),
            None => Trouble::Lost(format!("cuBLAS answers with status {}", status.0)),
        }
    }
}
