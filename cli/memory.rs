//! How much memory and how many threads there are.

use sysinfo::{MemoryRefreshKind, System};

/// The smallest default budget, in bytes.
const LEAST: u64 = 512 << 20;

/// RAM in bytes: the lower of the host's and the cgroup's limit.
pub fn ram() -> u64 {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let host = system.total_memory();
    match system.cgroup_limits() {
        Some(limits) if limits.total_memory > 0 => host.min(limits.total_memory),
        _ => host,
    }
}

/// The default budget: an eighth of the RAM, at least 512 MiB.
pub fn default_budget() -> u64 {
    (ram() / 8).max(LEAST)
}

/// The default number of threads.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
