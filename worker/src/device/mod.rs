//! Devices that fuse. Today the CPU; its arithmetic is that of `shardfuse_merge::fuse::reference`, bit by bit.

pub mod cpu;

/// The class of a device: two devices of one class give the same bits.
pub const CPU_CLASS: &str = "cpu";
