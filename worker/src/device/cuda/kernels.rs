//! Our own kernels (`kernels.cu`), loaded and launched.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaFunction, CudaModule, CudaStream};
use cudarc::nvrtc::Ptx;
use shardfuse_merge::Dtype;
use shardfuse_merge::recipe::op::norm::LANES;

const PTX: &str = include_str!("kernels.ptx");
const BLOCK: u64 = 256;
/// Enough blocks to fill any card; each thread then takes several elements.
const MOST_BLOCKS: u64 = 65_535;

/// The functions, each under its name in `kernels.cu`.
macro_rules! functions {
    ($($name:ident),+) => {
        #[derive(Debug)]
        struct Functions { $($name: CudaFunction),+ }

        impl Functions {
            fn load(module: &Arc<CudaModule>) -> Result<Self, DriverError> {
                Ok(Functions { $($name: module.load_function(stringify!($name))?),+ })
            }
        }
    };
}

functions!(decode, add, lanes_of_standing, lanes_of_original, row_gains, scale_rows, scale_columns, encode);

/// The kernels of one context, for the one stream that computes.
#[derive(Debug)]
pub(super) struct Kernels {
    stream: Arc<CudaStream>,
    functions: Functions,
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

    /// The lanes of the norms of all rows.
    fn lanes(self) -> u64 {
        self.rows * LANES as u64
    }
}

/// Queues `$kernels`' function `$name` with so many threads at least.
macro_rules! launch {
    ($kernels:ident.$name:ident, $threads:expr, $($arg:expr),+) => {{
        let mut args: Vec<*mut c_void> = vec![$((&raw const $arg).cast_mut().cast()),+];
        // SAFETY: the arguments are those of the kernel of that name, in its order and types; they live until the driver
        // has copied them, which is before the call returns.
        unsafe { $kernels.start(&$kernels.functions.$name, $threads, &mut args) }
    }};
}

/// Every method queues one kernel. The addresses must be valid for its extent until the stream is past it; the ring, their
/// one caller, takes them from buffers that it owns.
impl Kernels {
    /// Loads the module.
    pub(super) fn load(stream: &Arc<CudaStream>) -> Result<Self, DriverError> {
        let module = stream.context().load_module(Ptx::from_src(PTX))?;
        Ok(Kernels { stream: Arc::clone(stream), functions: Functions::load(&module)? })
    }

    /// # Safety
    /// `args` must be what the kernel takes, and its pointers must be valid on the device until the stream is past it.
    unsafe fn start(&self, function: &CudaFunction, threads: u64, args: &mut [*mut c_void]) -> Result<(), DriverError> {
        let blocks = threads.div_ceil(BLOCK).clamp(1, MOST_BLOCKS) as u32;
        let (grid, block, stream) = ((blocks, 1, 1), (BLOCK as u32, 1, 1), self.stream.cu_stream());
        // SAFETY: the caller's promise.
        unsafe { result::launch_kernel(function.cu_function(), grid, block, 0, stream, args) }
    }

    /// `w = upcast(raw)`.
    pub(super) fn decode(&self, raw: Encoded, w: CUdeviceptr, extent: Extent) -> Result<(), DriverError> {
        let (code, n) = (raw.code(), extent.elements());
        launch!(self.decode, n, raw.at, code, w, n)
    }

    /// `w = fma(scale, delta, w)`.
    pub(super) fn add(
        &self,
        w: CUdeviceptr,
        delta: CUdeviceptr,
        scale: f32,
        extent: Extent,
    ) -> Result<(), DriverError> {
        let n = extent.elements();
        launch!(self.add, n, w, delta, scale, n)
    }

    /// The lanes of each row's sum of squares.
    pub(super) fn lanes_of_standing(
        &self,
        w: CUdeviceptr,
        lanes: CUdeviceptr,
        extent: Extent,
    ) -> Result<(), DriverError> {
        let Extent { rows, cols } = extent;
        launch!(self.lanes_of_standing, extent.lanes(), w, rows, cols, lanes)
    }

    /// The same of the start plus this delta.
    pub(super) fn lanes_of_original(
        &self,
        raw: Encoded,
        (delta, scale): (CUdeviceptr, f32),
        lanes: CUdeviceptr,
        extent: Extent,
    ) -> Result<(), DriverError> {
        let (code, Extent { rows, cols }) = (raw.code(), extent);
        launch!(self.lanes_of_original, extent.lanes(), raw.at, code, delta, scale, rows, cols, lanes)
    }

    /// m / n of each row; `bad` is one status word.
    pub(super) fn row_gains(
        &self,
        lanes: CUdeviceptr,
        magnitudes: CUdeviceptr,
        gains: CUdeviceptr,
        rows: u64,
        bad: CUdeviceptr,
    ) -> Result<(), DriverError> {
        launch!(self.row_gains, rows, lanes, magnitudes, gains, rows, bad)
    }

    /// Multiplies each row by its gain.
    pub(super) fn scale_rows(&self, w: CUdeviceptr, gains: CUdeviceptr, extent: Extent) -> Result<(), DriverError> {
        let Extent { rows, cols } = extent;
        launch!(self.scale_rows, extent.elements(), w, gains, rows, cols)
    }

    /// Multiplies each column by its gain.
    pub(super) fn scale_columns(&self, w: CUdeviceptr, gains: CUdeviceptr, extent: Extent) -> Result<(), DriverError> {
        let Extent { rows, cols } = extent;
        launch!(self.scale_columns, extent.elements(), w, gains, rows, cols)
    }

    /// Rounds to the output's dtype; `bad` is one status word.
    pub(super) fn encode(
        &self,
        w: CUdeviceptr,
        out: Encoded,
        extent: Extent,
        bad: CUdeviceptr,
    ) -> Result<(), DriverError> {
        let (code, n) = (out.code(), extent.elements());
        launch!(self.encode, n, w, out.at, code, n, bad)
    }
}
