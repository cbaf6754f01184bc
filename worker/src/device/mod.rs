//! Devices that fuse: the CPU, whose arithmetic is that of `shardfuse_merge::recipe::arithmetic` bit by bit, and NVIDIA GPUs.

mod choice;
mod class;
pub mod cpu;
pub mod cuda;
mod slice;

pub use choice::{Choice, Device};
pub use class::CPU_CLASS;
pub use cuda::Limits;
pub use slice::Slice;
