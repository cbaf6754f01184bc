//! What a card can do at best: copies of page-locked memory, copies within it, and cuBLAS on its own.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::cublas::sys::{cublasComputeType_t, cublasGemmAlgo_t, cublasMath_t, cublasOperation_t, cudaDataType_t};
use cudarc::driver::sys::{CUdeviceptr, CUevent_flags};
use cudarc::driver::{CudaContext, CudaStream, result};
use shardfuse_worker::device::cuda::{Status, cublas};

/// As large as a tile.
const BYTES: usize = 16 << 20;
const WORKSPACE: usize = 32 << 20;

/// GB/s of copies: bytes copied over time.
pub struct Ceilings {
    pub load: f64,
    pub store: f64,
    /// Both ways together.
    pub both: f64,
    /// Within the device, once over each byte.
    pub within: f64,
}

/// The shape of a tile's product.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    pub rows: usize,
    pub cols: usize,
    pub rank: usize,
}

/// Memory of this bench; the process ends soon enough to free none of it.
struct Place {
    host: &'static mut [u8],
    there: CUdeviceptr,
    stream: Arc<CudaStream>,
}

impl Place {
    fn new(context: &Arc<CudaContext>) -> Place {
        let stream = context.new_stream().expect("a stream");
        context.bind_to_thread().expect("the context");
        // SAFETY: the context is current; the memory is never freed, and zeroed before it is read.
        let (host, there) = unsafe {
            let host = result::malloc_host(BYTES, 0).expect("page-locked memory").cast::<u8>();
            host.write_bytes(0, BYTES);
            (std::slice::from_raw_parts_mut(host, BYTES), result::malloc_sync(BYTES).expect("device memory"))
        };
        Place { host, there, stream }
    }

    fn load(&self) {
        // SAFETY: both have this length and stay.
        unsafe { result::memcpy_htod_async(self.there, self.host, self.stream.cu_stream()) }.expect("a copy");
    }

    fn store(&mut self) {
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(self.host, self.there, self.stream.cu_stream()) }.expect("a copy");
    }
}

fn gigabytes(bytes: usize, seconds: f64) -> f64 {
    bytes as f64 / seconds / 1e9
}

/// Seconds on the device for work that is queued on one stream.
fn time(stream: &Arc<CudaStream>, times: usize, mut queue: impl FnMut()) -> f64 {
    let event = || stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).expect("an event");
    queue();
    let began = event();
    (0..times).for_each(|_| queue());
    let ended = event();
    f64::from(began.elapsed_ms(&ended).expect("a time")) / 1e3 / times as f64
}

impl Ceilings {
    /// Measures a device; each figure is a mean of so many copies.
    pub fn measure(number: u32, times: usize) -> Ceilings {
        let context = CudaContext::new(number as usize).expect("the device was opened before");
        let (mut one, mut other) = (Place::new(&context), Place::new(&context));
        let stream = Arc::clone(&one.stream);
        let load = time(&stream, times, || one.load());
        let store = time(&stream, times, || one.store());
        let (from, to) = (one.there, other.there);
        let within = time(&stream, times, || {
            // SAFETY: both have this length and stay.
            unsafe { result::memcpy_dtod_async(to, from, BYTES, stream.cu_stream()) }.expect("a copy");
        });
        let began = std::time::Instant::now();
        for _ in 0..times {
            one.load();
            other.store();
        }
        one.stream.synchronize().expect("the device works");
        other.stream.synchronize().expect("the device works");
        let both = began.elapsed().as_secs_f64() / times as f64;
        Ceilings {
            load: gigabytes(BYTES, load),
            store: gigabytes(BYTES, store),
            both: gigabytes(2 * BYTES, both),
            within: gigabytes(BYTES, within),
        }
    }
}

/// TFLOP/s of cuBLAS alone at a shape, in the mode that is used.
pub fn gemm(number: u32, times: usize, product: Product) -> f64 {
    let context = CudaContext::new(number as usize).expect("the device was opened before");
    let stream = context.new_stream().expect("a stream");
    let Product { rows, cols, rank } = product;
    // Zeros multiply faster than what a merge has.
    let values = |count: usize| {
        let host: Vec<f32> =
            (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0).collect();
        // SAFETY: the context is current; the memory is set before it is read, and freed below.
        unsafe {
            let at = result::malloc_sync(count * 4).expect("device memory");
            result::memcpy_htod_async(at, &host, stream.cu_stream()).expect("it is set");
            stream.synchronize().expect("the device works");
            at
        }
    };
    let (left, right, delta) = (values(rows * rank), values(rank * cols), values(rows * cols));
    let workspace = values(WORKSPACE / 4);
    let library = cublas().expect("the device was opened with it");
    let mut handle = std::ptr::null_mut();
    // SAFETY: the handle is live after its creation, and the stream and the workspace outlive it.
    unsafe {
        Status((library.create)(&mut handle)).check().expect("cuBLAS");
        Status((library.set_stream)(handle, stream.cu_stream().cast())).check().expect("its stream");
        Status((library.set_workspace)(handle, workspace as *mut c_void, WORKSPACE)).check().expect("its workspace");
        Status((library.set_math_mode)(handle, cublasMath_t::CUBLAS_PEDANTIC_MATH)).check().expect("its mode");
    }
    let (one, zero) = (1.0f32, 0.0f32);
    let f32 = cudaDataType_t::CUDA_R_32F;
    let seconds = time(&stream, times, || {
        // SAFETY: the matrices have these shapes. By columns it is delta^T = right^T @ left^T.
        let status = unsafe {
            (library.gemm_ex)(
                handle,
                cublasOperation_t::CUBLAS_OP_N,
                cublasOperation_t::CUBLAS_OP_N,
                cols as i32,
                rows as i32,
                rank as i32,
                (&raw const one).cast(),
                right as *const c_void,
                f32,
                cols as i32,
                left as *const c_void,
                f32,
                rank as i32,
                (&raw const zero).cast(),
                delta as *mut c_void,
                f32,
                cols as i32,
                cublasComputeType_t::CUBLAS_COMPUTE_32F_PEDANTIC,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        };
        Status(status).check().expect("a product");
    });
    for at in [left, right, delta, workspace] {
        // SAFETY: they are this function's, and nothing uses them any more: `time` waited.
        unsafe { result::free_sync(at) }.expect("it is freed");
    }
    // SAFETY: it is live and destroyed once.
    Status(unsafe { (library.destroy)(handle) }).check().expect("it goes");
    2.0 * (rows * cols * rank) as f64 / seconds / 1e12
}
