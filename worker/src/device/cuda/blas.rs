//! cuBLAS: one handle with its own workspace, for one stream.
//!
//! cuBLAS gives the same bits for the same version, architecture, shape and workspace, as long as one stream uses the
//! handle. So shapes are fixed by the tensor (`super::tiling`), the workspace is ours and of one size, every operand is
//! aligned to 256 bytes, and nothing else uses this handle.
//!
//! The inputs are fp32 and the mode is pedantic: no TF32, no splitting into bf16. Factors in bf16 and fp16 are upcast
//! first, which is exact; multiplied on tensor cores they would be summed with another rounding than IEEE's, and the time
//! that would save is hidden behind the copies anyway (`docs/gpu.md`).

use std::sync::Arc;

use cudarc::cublas::sys::{
    cublasComputeType_t, cublasGemmAlgo_t, cublasHandle_t, cublasMath_t, cublasOperation_t, cudaDataType_t,
};
use cudarc::driver::CudaStream;
use cudarc::driver::sys::CUdeviceptr;

use super::card::Card;
use super::library::{self, Library, Status};
use super::memory::Buffer;
use super::trouble::Trouble;

/// What NVIDIA recommends for the largest cards. Fixed: it is a part of what decides the bits.
const WORKSPACE: usize = 32 << 20;

/// A handle.
#[derive(Debug)]
pub(super) struct Blas {
    handle: cublasHandle_t,
    library: &'static Library,
    #[allow(dead_code, reason = "cuBLAS holds its address")]
    workspace: Buffer,
}

// SAFETY: cuBLAS lets a handle be used from any thread, one at a time; a `Blas` is used by the thread that owns it.
unsafe impl Send for Blas {}

/// A factor on the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix {
    /// Row-major values in fp32.
    pub at: CUdeviceptr,
    /// Whether what is stored is the transpose of what is meant.
    pub transposed: bool,
}

impl Blas {
    /// A handle for a stream.
    pub(super) fn new(card: &Arc<Card>, stream: &CudaStream) -> Result<Self, Trouble> {
        let library = library::cublas().map_err(Trouble::Lost)?;
        let workspace = Buffer::new(card, WORKSPACE)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the argument is a place for a handle.
        Status(unsafe { (library.create)(&mut handle) }).check()?;
        let blas = Blas { handle, library, workspace };
        // SAFETY: the handle was just made; the workspace lives as long as it does, and so does the stream (the ring owns
        // both).
        unsafe {
            Status((library.set_stream)(handle, stream.cu_stream().cast())).check()?;
            let workspace = blas.workspace.at(0, WORKSPACE) as *mut _;
            Status((library.set_workspace)(handle, workspace, WORKSPACE)).check()?;
            Status((library.set_math_mode)(handle, cublasMath_t::CUBLAS_PEDANTIC_MATH)).check()?;
        }
        Ok(blas)
    }

    /// The library's version as it counts: 120804 is 12.8.4.
    pub(super) fn version(&self) -> Result<u32, Status> {
        let mut version = 0;
        // SAFETY: the handle is live.
        Status(unsafe { (self.library.get_version)(self.handle, &mut version) }).check()?;
        Ok(version.unsigned_abs())
    }

    /// `delta = left @ right` in fp32, overwriting `delta`: left [m, rank] row-major, right [rank, n], delta [m, n].
    ///
    /// # Safety
    /// The addresses must hold matrices of these shapes on the device until the stream is past this call, and nothing
    /// else may write to them meanwhile.
    pub(super) unsafe fn product(
        &self,
        delta: CUdeviceptr,
        left: CUdeviceptr,
        right: Matrix,
        (m, rank, n): (usize, usize, usize),
    ) -> Result<(), Status> {
        use cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        // Sizes are bounded by the tiling, far below i32::MAX.
        let (m, rank, n) = (m as i32, rank as i32, n as i32);
        let (op, width) = if right.transposed { (CUBLAS_OP_T, rank) } else { (CUBLAS_OP_N, n) };
        let (one, zero) = (1.0f32, 0.0f32);
        let f32 = cudaDataType_t::CUDA_R_32F;
        // cuBLAS counts by columns: seen so, this is delta^T [n, m] = right^T [n, rank] @ left^T [rank, m].
        // SAFETY: the caller's promise; alpha and beta are read before the call returns (host pointer mode).
        let status = unsafe {
            (self.library.gemm_ex)(
                self.handle,
                op,
                CUBLAS_OP_N,
                n,
                m,
                rank,
                (&raw const one).cast(),
                right.at as *const _,
                f32,
                width,
                left as *const _,
                f32,
                rank,
                (&raw const zero).cast(),
                delta as *mut _,
                f32,
                n,
                cublasComputeType_t::CUBLAS_COMPUTE_32F_PEDANTIC,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        Status(status).check()
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        // A device that is gone says so here once more.
        // SAFETY: the handle is live and destroyed once.
        let _ = unsafe { (self.library.destroy)(self.handle) };
    }
}
