//! The functions of libcublas.so.12 that are called.

#![allow(non_snake_case, clippy::missing_safety_doc)]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::driver::stream;
use crate::settings::{self, PRODUCTS};
use crate::{ILLEGAL_ADDRESS, OK, Status, memory};

const INVALID_VALUE: Status = 7;
const NOT_SUPPORTED: Status = 15;
const NOT_INITIALIZED: Status = 1;
/// CUDA_R_32F, CUBLAS_COMPUTE_32F_PEDANTIC, CUBLAS_PEDANTIC_MATH: the one kind of product that is used.
const F32: c_int = 0;
const PEDANTIC: c_int = 69;
const PEDANTIC_MATH: c_int = 2;

#[derive(Default)]
struct Handle {
    stream: AtomicUsize,
    mode: AtomicUsize,
    workspace: AtomicUsize,
}

unsafe fn handle<'a>(at: *mut c_void) -> &'a Handle {
    // SAFETY: it is one of `cublasCreate_v2`'s.
    unsafe { &*at.cast::<Handle>() }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasCreate_v2(at: *mut *mut c_void) -> Status {
    // SAFETY: the caller's pointer is valid.
    unsafe { *at = Box::into_raw(Box::new(Handle::default())).cast() };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasDestroy_v2(at: *mut c_void) -> Status {
    // SAFETY: it is one of `cublasCreate_v2`'s, destroyed once.
    drop(unsafe { Box::from_raw(at.cast::<Handle>()) });
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasGetVersion_v2(_at: *mut c_void, version: *mut c_int) -> Status {
    // SAFETY: the caller's pointer is valid.
    unsafe { *version = settings::cublas() as c_int };
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasSetStream_v2(at: *mut c_void, on: *mut c_void) -> Status {
    // SAFETY: it is one of `cublasCreate_v2`'s. As in cuBLAS, this takes the workspace back.
    let handle = unsafe { handle(at) };
    handle.stream.store(on as usize, Ordering::SeqCst);
    handle.workspace.store(0, Ordering::SeqCst);
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasSetWorkspace_v2(at: *mut c_void, workspace: *mut c_void, bytes: usize) -> Status {
    if !memory::on_device(workspace as u64, bytes as u64) || !(workspace as usize).is_multiple_of(256) {
        return INVALID_VALUE;
    }
    // SAFETY: it is one of `cublasCreate_v2`'s.
    unsafe { handle(at) }.workspace.store(workspace as usize, Ordering::SeqCst);
    OK
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasSetMathMode(at: *mut c_void, mode: c_int) -> Status {
    // SAFETY: it is one of `cublasCreate_v2`'s.
    unsafe { handle(at) }.mode.store(mode as usize, Ordering::SeqCst);
    OK
}

/// C = alpha * op(A) @ op(B) + beta * C by columns, in fp32; only what is used is played: alpha 1, beta 0, B as it is.
#[cfg(not(feature = "without-gemm"))]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasGemmEx(
    at: *mut c_void,
    trans_a: c_int,
    trans_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const f32,
    a: u64,
    a_type: c_int,
    lda: c_int,
    b: u64,
    b_type: c_int,
    ldb: c_int,
    beta: *const f32,
    c: u64,
    c_type: c_int,
    ldc: c_int,
    compute: c_int,
    _algorithm: c_int,
) -> Status {
    if settings::gemm_launch() != 0 {
        return settings::gemm_launch() as Status;
    }
    // SAFETY: it is one of `cublasCreate_v2`'s.
    let handle = unsafe { handle(at) };
    if handle.stream.load(Ordering::SeqCst) == 0 || handle.workspace.load(Ordering::SeqCst) == 0 {
        return NOT_INITIALIZED;
    }
    // SAFETY: alpha and beta are host pointers in the mode that is the default.
    let (alpha, beta) = unsafe { (*alpha, *beta) };
    if (a_type, b_type, c_type) != (F32, F32, F32)
        || compute != PEDANTIC
        || handle.mode.load(Ordering::SeqCst) != PEDANTIC_MATH as usize
        || (alpha, beta, trans_b) != (1.0, 0.0, 0)
        || !matches!(trans_a, 0 | 1)
    {
        return NOT_SUPPORTED;
    }
    if m < 0 || n < 0 || k < 0 || lda < if trans_a == 0 { m } else { k }.max(1) || ldb < k.max(1) || ldc < m.max(1) {
        return INVALID_VALUE;
    }
    // Every operand where cuBLAS finds its widest loads: the bits of a real card may depend on it.
    if [a, b, c].iter().any(|at| at % 256 != 0) {
        return INVALID_VALUE;
    }
    let (m, n, k, lda, ldb, ldc) = (m as usize, n as usize, k as usize, lda as usize, ldb as usize, ldc as usize);
    let extent =
        |ld: usize, rows: usize, cols: usize| if cols == 0 { 0 } else { (((cols - 1) * ld + rows) * 4) as u64 };
    let a_bytes = if trans_a == 0 { extent(lda, m, k) } else { extent(lda, k, m) };
    let (b_bytes, c_bytes) = (extent(ldb, k, n), extent(ldc, m, n));
    // SAFETY: the stream is live.
    unsafe { stream(handle.stream.load(Ordering::SeqCst) as *mut c_void) }.push(Box::new(move || {
        PRODUCTS.fetch_add(1, Ordering::SeqCst);
        let there = memory::on_device(a, a_bytes) && memory::on_device(b, b_bytes) && memory::on_device(c, c_bytes);
        if !there {
            return ILLEGAL_ADDRESS;
        }
        // SAFETY: the ranges are allocated.
        let (a, b, c) = unsafe {
            (
                std::slice::from_raw_parts(a as *const f32, a_bytes as usize / 4),
                std::slice::from_raw_parts(b as *const f32, b_bytes as usize / 4),
                std::slice::from_raw_parts_mut(c as *mut f32, c_bytes as usize / 4),
            )
        };
        product((m, n, k), (a, lda, trans_a == 1), (b, ldb), (c, ldc));
        OK
    }))
}

/// One chain of fused multiply-adds an element, over k in increasing order, as the CPU kernels have it.
#[cfg(not(feature = "without-gemm"))]
fn product((m, n, k): (usize, usize, usize), a: (&[f32], usize, bool), b: (&[f32], usize), c: (&mut [f32], usize)) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("fma") && std::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2,fma")]
        fn wide(s: (usize, usize, usize), a: (&[f32], usize, bool), b: (&[f32], usize), c: (&mut [f32], usize)) {
            columns(s, a, b, c);
        }
        // SAFETY: the CPU has the features.
        return unsafe { wide((m, n, k), a, b, c) };
    }
    columns((m, n, k), a, b, c);
}

#[cfg(not(feature = "without-gemm"))]
#[inline(always)]
fn columns(
    (m, n, k): (usize, usize, usize),
    (a, lda, transposed): (&[f32], usize, bool),
    (b, ldb): (&[f32], usize),
    (c, ldc): (&mut [f32], usize),
) {
    let backwards = settings::backwards() != 0;
    for j in 0..n {
        let column = &mut c[j * ldc..][..m];
        column.fill(0.0);
        for l in 0..k {
            let l = if backwards { k - 1 - l } else { l };
            let factor = b[j * ldb + l];
            if transposed {
                for (i, sum) in column.iter_mut().enumerate() {
                    *sum = factor.mul_add(a[i * lda + l], *sum);
                }
            } else {
                for (sum, a) in column.iter_mut().zip(&a[l * lda..][..m]) {
                    *sum = factor.mul_add(*a, *sum);
                }
            }
        }
    }
}
