//! Which devices a merge may run on, and what was begun where.

use std::fmt;
use std::str::FromStr;

use shardfuse_merge::{DeviceClass, Error, Kind, Result};

/// What a submission asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA card: the class of the first worker that has one.
    Cuda,
}

impl Device {
    /// Whether a class is one of this device.
    pub fn has(self, class: &DeviceClass) -> bool {
        (self == Device::Cuda) == class.is_cuda()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
        })
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Device> {
        match name.to_ascii_lowercase().as_str() {
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda),
            _ => Err(Error::new(Kind::Usage, format!("the device is {name:?}, expected cpu or cuda"))),
        }
    }
}

/// The class of a merge that is begun or gone on with: what was begun in a class is finished in it.
///
/// `journaled` is the class of an earlier start, and whether anything of it is finished; `first` is the class of the first
/// worker that has the device.
///
/// # Errors
/// If parts are finished in a class that is not of the device.
pub fn choose(device: Device, journaled: Option<(&DeviceClass, bool)>, first: &DeviceClass) -> Result<DeviceClass> {
    match journaled {
        Some((class, _)) if device.has(class) => Ok(class.clone()),
        Some((class, true)) => Err(other_class(class, &device)),
        _ => Ok(first.clone()),
    }
}

/// What was begun in one class cannot be finished in another.
pub fn other_class(begun: &DeviceClass, asked: &impl fmt::Display) -> Error {
    Error::new(
        Kind::OutputExists,
        format!("the merge was begun in device class {begun}, parts of it are finished, and {asked} was asked for"),
    )
    .hint("go on with the device that began it, or discard what is there with --restart")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_in_a_class_is_finished_in_it() {
        let class = |text: &str| text.parse::<DeviceClass>().unwrap();
        let (h100, other, cpu) = (class("cuda:sm90:132:12.8.4"), class("cuda:sm80:108:12.8.4"), DeviceClass::Cpu);
        assert_eq!(choose(Device::Cuda, None, &h100).unwrap(), h100);
        assert_eq!(choose(Device::Cuda, Some((&other, true)), &h100).unwrap(), other);
        assert_eq!(choose(Device::Cpu, Some((&h100, false)), &cpu).unwrap(), cpu);
        let refused = choose(Device::Cpu, Some((&h100, true)), &cpu).unwrap_err();
        assert!(refused.message().contains("cuda:sm90:132:12.8.4") && refused.message().contains("cpu"), "{refused}");
    }

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for device in [Device::Cpu, Device::Cuda] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert!("cuda:0".parse::<Device>().unwrap_err().message().contains("cuda:0"));
    }
}
