//! How GPUs are used, on every command that fuses.

use clap::Args as ClapArgs;

/// Flags for GPUs.
#[derive(Debug, Clone, ClapArgs)]
pub struct Gpu {
    /// A GPU on which nothing ends for so long, although work is queued, has hung: what runs on it fails and its worker leaves
    #[arg(long, value_name = "TIME", default_value = "120s", env = "SHARDFUSE_GPU_PATIENCE")]
    pub gpu_patience: String,
}
