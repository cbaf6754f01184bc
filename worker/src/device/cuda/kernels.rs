//! Our own kernels (`kernels.cu`), loaded and launched.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaContext, CudaFunction, CudaStream};
use cudarc::nvrtc::Ptx;
use shardfuse_merge::Dtype;
use shardfuse_merge::fuse::norm::LANES;

const PTX: &str = include_str!("kernels.ptx");
const BLOCK: u64 = 256;
/// Enough blocks to fill any card; each thread then takes several elements.
const MOST_BLOCKS: u64 = 65_535;

/// The kernels of one context.
#[derive(Debug)]
pub(super) struct Kernels {
    decode: CudaFunction,
    add: CudaFunction,
    lanes_of_standing: CudaFunction,
    lanes_of_original: CudaFunction,
    row_gains: CudaFunction,
    scale_rows: CudaFunction,
    scale_columns: CudaFunction,
    encode: CudaFunction,
}

/// Encoded values on the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoded {
    /// Where they lie.
    pub at: CUdeviceptr,
    /// What they are.
    pub dtype: Dtype,
}

impl Encoded {
    fn code(self) -> u32 {
        match self.dtype {
            Dtype::F32 => 0,
            Dtype::F16 => 1,
            Dtype::BF16 => 2,
            other => unreachable!("{other} has no path on the device; the tiling refuses it"),
        }
    }
}

/// A tile's extent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Rows that are computed.
    pub rows: u64,
    /// Columns.
    pub cols: u64,
}

impl Extent {
    fn elements(self) -> u64 {
        self.rows * self.cols
    }
}

macro_rules! launch {
    ($stream:expr, $function:expr, $threads:expr, $($arg:expr),+) => {{
        let mut args: Vec<*mut c_void> = vec![$((&raw const $arg).cast_mut().cast()),+];
        // SAFETY: the arguments are those of the kernel of that name, in its order and types; they live until the driver
        // has copied them, which is before the call returns.
        unsafe { start($stream, $function, $threads, &mut args) }
    }};
}

/// # Safety
/// `args` must be what the kernel takes, and its pointers must be valid on the device until the stream is past it.
unsafe fn start(
    stream: &CudaStream,
    function: &CudaFunction,
    threads: u64,
    args: &mut [*mut c_void],
) -> Result<(), DriverError> {
    let blocks = threads.div_ceil(BLOCK).clamp(1, MOST_BLOCKS) as u32;
    // SAFETY: the caller's promise.
    unsafe {
        result::launch_kernel(function.cu_function(), (blocks, 1, 1), (BLOCK as u32, 1, 1), 0, stream.cu_stream(), args)
    }
}

/// Every method queues one kernel on `stream`. The addresses must be valid for its extent until the stream is past it;
/// the ring, their one caller, takes them from buffers that it owns.
impl Kernels {
    /// Loads the module.
    pub(super) fn load(context: &Arc<CudaContext>) -> Result<Self, DriverError> {
        let module = context.load_module(Ptx::from_src(PTX))?;
        Ok(Kernels {
            decode: module.load_function("decode")?,
            add: module.load_function("add")?,
            lanes_of_standing: module.load_function("lanes_of_standing")?,
            lanes_of_original: module.load_function("lanes_of_original")?,
            row_gains: module.load_function("row_gains")?,
            scale_rows: module.load_function("scale_rows")?,
            scale_columns: module.load_function("scale_columns")?,
            encode: module.load_function("encode")?,
        })
    }

    /// `w = upcast(raw)`.
    pub(super) fn decode(
        &self,
        stream: &CudaStream,
        raw: Encoded,
        w: CUdeviceptr,
        extent: Extent,
    ) -> Result<(), DriverError> {
        let (code, n) = (raw.code(), extent.elements());
        launch!(stream, &self.decode, n, raw.at, code, w, n)
    }

    /// `w = fma(scale, delta, w)`.
    pub(super) fn add(
        &self,
        stream: &CudaStream,
        w: CUdeviceptr,
        delta: CUdeviceptr,
        scale: f32,
        extent: Extent,
    ) -> Result<(), DriverError> {
        let n = extent.elements();
        launch!(stream, &self.add, n, w, delta, scale, n)
    }

    /// The lanes of each row's sum of squares.
    pub(super) fn lanes_of_standing(
        &self,
        stream: &CudaStream,
        w: CUdeviceptr,
        lanes: CUdeviceptr,
        extent: Extent,
    ) -> Result<(), DriverError> {
        let Extent { rows, cols } = extent;
        launch!(stream, &self.lanes_of_standing, rows * LANES as u64, w, rows, cols, lanes)
    }

    /// The same of the start plus this delta.
    pub(super) fn lanes_of_original(
        &self,
        stream: &CudaStream,
        raw: Encoded,
        (delta, scale): (CUdeviceptr, f32),
        lanes: CUdeviceptr,
        extent: Extent,
    ) -> Result<(), DriverError> {
        let (code, Extent { rows, cols }) = (raw.code(), extent);
        let threads = rows * LANES as u64;
        launch!(stream, &self.lanes_of_original, threads, raw.at, code, delta, scale, rows, cols, lanes)
    }

    /// m / n of each row; `bad` is one status word.
    pub(super) fn row_gains(
        &self,
        stream: &CudaStream,
        lanes: CUdeviceptr,
        magnitudes: CUdeviceptr,
        gains: CUdeviceptr,
        rows: u64,
        bad: CUdeviceptr,
    ) -> Result<(), DriverError> {
        launch!(stream, &self.row_gains, rows, lanes, magnitudes, gains, rows, bad)
    }

    /// Multiplies each row by its gain.
    pub(super) fn scale_rows(
        &self,
        stream: &CudaStream,
        w: CUdeviceptr,
        gains: CUdeviceptr,
        extent: Extent,
    ) -> Result<(), DriverError> {
        let Extent { rows, cols } = extent;
        launch!(stream, &self.scale_rows, extent.elements(), w, gains, rows, cols)
    }

    /// Multiplies each column by its gain.
    pub(super) fn scale_columns(
        &self,
        stream: &CudaStream,
        w: CUdeviceptr,
        gains: CUdeviceptr,
        extent: Extent,
    ) -> Result<(), DriverError> {
        let Extent { rows, cols } = extent;
        launch!(stream, &self.scale_columns, extent.elements(), w, gains, rows, cols)
    }

    /// Rounds to the output's dtype; `bad` is one status word.
    pub(super) fn encode(
        &self,
        stream: &CudaStream,
        w: CUdeviceptr,
        out: Encoded,
        extent: Extent,
        bad: CUdeviceptr,
    ) -> Result<(), DriverError> {
        let (code, n) = (out.code(), extent.elements());
        launch!(stream, &self.encode, n, w, out.at, code, n, bad)
    }
}
