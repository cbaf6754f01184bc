//! Devices that fuse: the CPU, whose arithmetic is that of `shardfuse_merge::recipe::arithmetic` bit by bit, and NVIDIA GPUs.

mod choice;
pub mod cpu;
pub mod cuda;

pub use choice::{Choice, Device};
pub use cuda::Limits;

/// The class of a CPU.
pub const CPU_CLASS: &str = "cpu";
