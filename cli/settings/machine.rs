//! What a process may take of its machine, and how its devices share it.

use shardfuse_merge::spec::Size;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::Stores;
use shardfuse_worker::device::{Device, Limits};

use crate::args::{Machine, Resources};
use crate::memory;

/// Parts that must fit into a budget, so that reading, computing and writing go on at a time.
const PARTS: u64 = 4;

/// The budget of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// In bytes.
    pub memory: u64,
    /// Threads that fuse.
    pub threads: usize,
}

impl Budget {
    /// As the flags say, else as the machine has it.
    pub fn of(flags: &Resources) -> Budget {
        Budget {
            memory: flags.memory.map_or_else(memory::default_budget, |size| size.0),
            threads: flags.threads.map_or_else(memory::default_threads, usize::from),
        }
    }

    /// Refuses a budget that is too small for parts of a size.
    pub fn check(&self, part_size: u64) -> Result<()> {
        let least = PARTS.saturating_mul(part_size);
        if self.memory >= least {
            return Ok(());
        }
        let (memory, part, least) = (Size(self.memory), Size(part_size), Size(least));
        Err(Error::new(
            Kind::Usage,
            format!("--memory of {memory} is too little for parts of {part}: four parts must fit, which take {least}"),
        ))
    }

    /// An even share for each of `devices` devices: each has a pipeline and a session of its own. `slots` is the number of tasks
    /// at a time, where it was given.
    pub fn share(self, devices: usize, part_size: u64, slots: Option<u32>) -> Share {
        let devices = devices.max(1);
        let memory = self.memory / devices as u64;
        // Enough tasks that their parts fill the budget, so that reading, fusing and writing overlap.
        let slots = slots.unwrap_or_else(|| (memory / (8 * part_size)).clamp(2, 16) as u32);
        Share { memory, threads: (self.threads / devices).max(1), slots }
    }
}

/// What one device may take of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// In bytes.
    pub memory: u64,
    /// Threads that fuse.
    pub threads: usize,
    /// Tasks at a time.
    pub slots: u32,
}

impl Machine {
    /// What GPUs may take of a budget, and how long they may be silent.
    pub fn limits(&self, memory: u64) -> Result<Limits> {
        let patience = self.gpu_patience.0;
        if patience.is_zero() {
            return Err(Error::new(Kind::Usage, "--gpu-patience is 0, expected a time above it").hint("such as 120s"));
        }
        Ok(Limits { memory, patience })
    }

    /// The stores, held to `--limit-rate`.
    pub fn limited(&self, stores: Stores) -> Stores {
        match self.limit_rate {
            Some(rate) => stores.with_write_limit(rate.0),
            None => stores,
        }
    }
}

/// Opens what fuses.
pub fn open(choice: shardfuse_worker::device::Choice, flags: &Machine, budget: Budget) -> Result<Vec<Device>> {
    Device::open(choice, flags.limits(budget.memory)?).map_err(|f| f.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_share_a_budget_evenly_and_slots_fill_it() {
        let budget = Budget { memory: 16 << 30, threads: 3 };
        assert_eq!(budget.share(1, 64 << 20, None), Share { memory: 16 << 30, threads: 3, slots: 16 });
        assert_eq!(budget.share(4, 64 << 20, None), Share { memory: 4 << 30, threads: 1, slots: 8 });
        assert_eq!(budget.share(0, 1 << 40, None).slots, 2, "at least two, so that reading and writing overlap");
        assert_eq!(budget.share(4, 64 << 20, Some(5)).slots, 5);
    }
}
