//! The class of a CPU: every CPU gives the same bits.

/// The class of a CPU.
pub const CPU_CLASS: &str = "cpu";
