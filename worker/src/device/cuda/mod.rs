//! NVIDIA GPUs: the product on cuBLAS, everything around it in our own kernels.
//!
//! ```text
//! part (pipeline)  ->  order: rows of W, rows of left factors, right factors on the device, where the result goes
//!   thread cuda-in    fills page-locked memory tile by tile, queues load, arithmetic and store
//!   thread cuda-out   waits for each tile, looks at its status, copies the result to the part, answers after the last
//! ```
//!
//! The arithmetic is that of `shardfuse_merge::recipe` with one difference: the order in which cuBLAS sums a product over the
//! rank is its own. It is the same for the same class of device, so the bits of a merge depend on its class alone
//! (`tiling`, `blas`). The libraries are loaded when a device is opened; a program without them runs on the CPU.
//!
//! Errors: memory that is full makes room (idle factors go, then other parts are waited for). Any other error stays with a
//! CUDA context for good, so the device is lost: its tasks fail as this worker's own, and [`Gpu::lost`] ends the worker. So
//! is one that hangs (`card`).

mod blas;
mod card;
mod engine;
mod gpu;
mod job;
mod kernels;
mod library;
mod memory;
mod nvml;
mod open;
mod probe;
mod right;
mod ring;
mod selftest;
mod tiling;
mod trouble;

pub use gpu::{Gpu, Stages};
pub use job::{Done, Gain, Program, Step, Wrong};
pub use library::{Library, Status, cublas};
pub use memory::Buffer;
pub use nvml::observe;
pub use open::{Limits, open};
pub use right::{Key, Right};
pub use tiling::{Tiling, Way, product};
