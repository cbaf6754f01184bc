//! Whether CUDA can be used here, asked without anything that panics or ends the process.
//!
//! cudarc opens the driver's library when it first calls it, and panics where that or a function of it is missing. So both
//! are looked for first.

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
    // SAFETY: the driver is there; the symbols are looked up and not called.
    let missing =
        DRIVER.iter().find(|name| unsafe { driver::culib().get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_err());
    if let Some(name) = missing {
        return Err(format!("libcuda.so.1 has no {name}: it is of another version than this program can use"));
    }
    super::library::cublas()?;
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
