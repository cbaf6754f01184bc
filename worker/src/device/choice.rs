//! Which device a worker fuses on: what was asked for, and what that comes to on this machine.

use std::sync::Arc;

use shardfuse_merge::Kind;
use tracing::info;

use super::class::CPU_CLASS;
use super::cuda::{self, Limits};
use crate::Failure;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// Every usable GPU, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// Every usable GPU, or the one of this number.
    Cuda(Option<u32>),
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Choice::Auto => f.write_str("auto"),
            Choice::Cpu => f.write_str("cpu"),
            Choice::Cuda(None) => f.write_str("cuda"),
            Choice::Cuda(Some(number)) => write!(f, "cuda:{number}"),
        }
    }
}

impl std::str::FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        match text.as_str() {
            "auto" => Ok(Choice::Auto),
            "cpu" => Ok(Choice::Cpu),
            "cuda" => Ok(Choice::Cuda(None)),
            _ => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(number)) => Ok(Choice::Cuda(Some(number))),
                _ => Err(format!("{text:?} is not auto, cpu, cuda, or cuda: and the number of a device")),
            },
        }
    }
}

/// A device that a pipeline fuses on.
#[derive(Debug, Clone)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// A GPU.
    Cuda(Arc<cuda::Gpu>),
}

impl Device {
    /// The class: two devices of one class give the same bits.
    pub fn class(&self) -> &str {
        match self {
            Device::Cpu => CPU_CLASS,
            Device::Cuda(gpu) => gpu.class(),
        }
    }

    /// Host memory that it holds, in bytes.
    pub fn host_bytes(&self) -> u64 {
        match self {
            Device::Cpu => 0,
            Device::Cuda(gpu) => gpu.host_bytes(),
        }
    }

    /// Keeps metrics of the GPUs among these up to date while they are in use.
    pub fn observe(devices: &[Device]) {
        let gpus = devices.iter().filter_map(|device| match device {
            Device::Cpu => None,
            Device::Cuda(gpu) => Some(Arc::clone(gpu)),
        });
        cuda::observe(&gpus.collect::<Vec<_>>());
    }

    /// Opens what was asked for: one device at least, all of one class. Waits for the devices.
    pub fn open(choice: Choice, limits: Limits) -> Result<Vec<Device>, Failure> {
        let number = match choice {
            Choice::Cpu => return Ok(vec![Device::Cpu]),
            Choice::Auto => None,
            Choice::Cuda(number) => number,
        };
        match (cuda::open(number, limits), choice) {
            (Ok(gpus), _) => {
                for gpu in &gpus {
                    info!(device = gpu.label(), class = gpu.class(), "fusing on a GPU");
                }
                Ok(gpus.into_iter().map(Device::Cuda).collect())
            }
            (Err(why), Choice::Auto) => {
                info!(%why, "fusing on the CPU: no GPU can be used");
                Ok(vec![Device::Cpu])
            }
            (Err(why), _) => Err(Failure::permanent(Kind::Usage, format!("--device cuda: {why}")).hint(
                "docs/gpu.md says what is needed; --device cpu merges without a GPU, --device auto takes what is there",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_documented() {
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        assert_eq!("cpu".parse(), Ok(Choice::Cpu));
        assert_eq!("cuda".parse(), Ok(Choice::Cuda(None)));
        assert_eq!("CUDA".parse(), Ok(Choice::Cuda(None)));
        assert_eq!("cuda:3".parse(), Ok(Choice::Cuda(Some(3))));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1"] {
            assert!(wrong.parse::<Choice>().is_err(), "{wrong}");
        }
    }
}
