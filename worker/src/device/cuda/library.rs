//! cuBLAS as a library: the functions that are called, found by name.
//!
//! cudarc's bindings look for the release they are built for alone. The functions below have the same arguments in CUDA 12
//! and 13, so whichever is installed is opened here, and the types and constants are cudarc's.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use cudarc::cublas::sys::{
    cublasComputeType_t, cublasGemmAlgo_t, cublasHandle_t, cublasMath_t, cublasOperation_t, cudaDataType_t,
};

/// The names it has, in the order in which they are tried. CUDA 12 is first, so that a machine with both keeps its class.
const NAMES: [&str; 3] = ["libcublas.so.12", "libcublas.so.13", "libcublas.so"];

/// The major versions whose functions are those below.
pub(super) const VERSIONS: [u32; 2] = [12, 13];

/// `cublasStatus_t` as a number: another release may answer with a value that cudarc's type has no name for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// Success, or the status itself.
    pub fn check(self) -> Result<(), Status> {
        if self.0 == 0 { Ok(()) } else { Err(self) }
    }
}

/// The functions, under cuBLAS's names.
#[derive(Debug)]
#[allow(missing_docs, reason = "NVIDIA documents them")]
pub struct Library {
    pub create: unsafe extern "C" fn(*mut cublasHandle_t) -> u32,
    pub destroy: unsafe extern "C" fn(cublasHandle_t) -> u32,
    pub get_version: unsafe extern "C" fn(cublasHandle_t, *mut c_int) -> u32,
    pub set_stream: unsafe extern "C" fn(cublasHandle_t, *mut c_void) -> u32,
    pub set_workspace: unsafe extern "C" fn(cublasHandle_t, *mut c_void, usize) -> u32,
    pub set_math_mode: unsafe extern "C" fn(cublasHandle_t, cublasMath_t) -> u32,
    pub gemm_ex: GemmEx,
    #[allow(dead_code, reason = "the functions above lie in it")]
    file: libloading::Library,
}

type GemmEx = unsafe extern "C" fn(
    cublasHandle_t,
    cublasOperation_t,
    cublasOperation_t,
    c_int,
    c_int,
    c_int,
    *const c_void,
    *const c_void,
    cudaDataType_t,
    c_int,
    *const c_void,
    cudaDataType_t,
    c_int,
    *const c_void,
    *mut c_void,
    cudaDataType_t,
    c_int,
    cublasComputeType_t,
    cublasGemmAlgo_t,
) -> u32;

/// The library of this process, or why there is none.
pub fn cublas() -> Result<&'static Library, String> {
    static OPENED: OnceLock<Result<Library, String>> = OnceLock::new();
    OPENED.get_or_init(open).as_ref().map_err(String::clone)
}

fn open() -> Result<Library, String> {
    let opened = NAMES.iter().find_map(|name| {
        // SAFETY: opening a library by its well-known name runs that library's initialisers and nothing else.
        unsafe { libloading::Library::new(*name) }.ok().map(|file| (*name, file))
    });
    let Some((name, file)) = opened else {
        return Err("cuBLAS is not here: neither libcublas.so.12 nor libcublas.so.13 can be loaded".to_owned());
    };
    /// A function, as a pointer that is good as long as the file is open.
    fn function<F: Copy>(file: &libloading::Library, library: &str, name: &str) -> Result<F, String> {
        // SAFETY: the caller's type is the function's by NVIDIA's header.
        unsafe { file.get::<F>(name.as_bytes()) }
            .map(|f| *f)
            .map_err(|_| format!("{library} has no {name}: it is of another version than this program can use"))
    }
    Ok(Library {
        create: function(&file, name, "cublasCreate_v2")?,
        destroy: function(&file, name, "cublasDestroy_v2")?,
        get_version: function(&file, name, "cublasGetVersion_v2")?,
        set_stream: function(&file, name, "cublasSetStream_v2")?,
        set_workspace: function(&file, name, "cublasSetWorkspace_v2")?,
        set_math_mode: function(&file, name, "cublasSetMathMode")?,
        gemm_ex: function(&file, name, "cublasGemmEx")?,
        file,
    })
}
