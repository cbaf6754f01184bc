//! Whether CUDA can be used here, asked without anything that panics or ends the process.
//!
//! The libraries are opened by name when they are first called, and cudarc panics where one or a function of one is
//! missing. So both are looked for first.

use cudarc::cublas::sys as blas;
use cudarc::driver::sys as driver;

/// The oldest driver interface that is used: CUDA 12.0, which came with driver 525.
const OLDEST_DRIVER: i32 = 12_000;

/// Everything of libcuda.so.1 that is called.
const DRIVER: [&str; 37] = [
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetUuid",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuCtxSynchronize",
];

/// Everything of libcublas.so.12 that is called.
const BLAS: [&str; 7] = [
    "cublasCreate_v2",
    "cublasDestroy_v2",
    "cublasGemmEx",
    "cublasGetVersion_v2",
    "cublasSetMathMode",
    "cublasSetStream_v2",
    "cublasSetWorkspace_v2",
];

/// Environment variables with which cuBLAS multiplies fp32 in another way than it is told to, and the value that does not.
const OVERRIDES: [(&str, &str); 2] = [("NVIDIA_TF32_OVERRIDE", "0"), ("CUBLAS_EMULATE_SINGLE_PRECISION", "0")];

/// The number of devices, or why CUDA cannot be used.
pub(super) fn devices() -> Result<u32, String> {
    for (name, harmless) in OVERRIDES {
        match std::env::var(name) {
            Ok(value) if value != harmless && !value.is_empty() => {
                return Err(format!("{name}={value} changes the arithmetic of cuBLAS"));
            }
            _ => {}
        }
    }
    // SAFETY: opening a library by its well-known name runs that library's initialisers and nothing else.
    if !unsafe { driver::is_culib_present() } {
        return Err("there is no NVIDIA driver here: libcuda.so.1 cannot be loaded".to_owned());
    }
    // SAFETY: as above.
    if !unsafe { blas::is_culib_present() } {
        return Err("the CUDA 12 libraries are not here: libcublas.so.12 cannot be loaded".to_owned());
    }
    // SAFETY: both libraries are there; the symbols are looked up and not called.
    let missing = unsafe {
        let in_driver =
            DRIVER.iter().find(|name| driver::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_err());
        let in_blas = BLAS.iter().find(|name| blas::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_err());
        in_driver.map(|n| ("libcuda.so.1", *n)).or(in_blas.map(|n| ("libcublas.so.12", *n)))
    };
    if let Some((library, name)) = missing {
        return Err(format!("{library} has no {name}: it is of another version than this program can use"));
    }
    let mut version = 0;
    // SAFETY: the symbol is there; the argument is a valid place for an int.
    unsafe { driver::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|e| format!("the driver answers {:?}", e.0))?;
    if version < OLDEST_DRIVER {
        let (major, minor) = (version / 1000, version % 1000 / 10);
        return Err(format!(
            "the NVIDIA driver is for CUDA {major}.{minor}, and CUDA 12.0 (driver 525) is the oldest that will do"
        ));
    }
    match cudarc::driver::CudaContext::device_count() {
        Ok(count) if count > 0 => Ok(count.unsigned_abs()),
        Ok(_) => Err("the NVIDIA driver finds no device".to_owned()),
        Err(e) if e.0 == driver::CUresult::CUDA_ERROR_NO_DEVICE => Err("the NVIDIA driver finds no device".to_owned()),
        Err(e) => Err(format!("the NVIDIA driver cannot start: {}", super::trouble::Trouble::from(e))),
    }
}
