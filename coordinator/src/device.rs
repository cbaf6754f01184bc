//! Device classes: whose bits an output has.
//!
//! `cpu`, or `cuda:<compute capability>:<multiprocessors>:<cuBLAS version>`. A merge has one class, fixed before its first
//! task, since two classes may round the same sum differently.

use shardfuse_merge::{Error, Kind, Result};

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
    /// From the wire or the command line.
    pub fn parse(name: &str) -> Result<Device> {
        match name {
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda),
            other => Err(Error::new(Kind::Usage, format!("the device is {other:?}, expected cpu or cuda"))),
        }
    }

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
        }
    }

    /// Whether a class is one of this device.
    pub fn has(self, class: &str) -> bool {
        class.split(':').next() == Some(self.as_str())
    }
}

/// The longest class that is taken, in bytes.
const MAX_CLASS: usize = 64;

/// Whether this is how a class is written.
pub fn is_class(text: &str) -> bool {
    if text == "cpu" {
        return true;
    }
    let fields: Vec<&str> = text.split(':').collect();
    let plain = |f: &&str| !f.is_empty() && f.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    text.len() <= MAX_CLASS && fields.len() == 4 && fields[0] == "cuda" && fields[1..].iter().all(plain)
}

/// The class of a merge that is begun or gone on with: what was begun in a class is finished in it.
///
/// `journaled` is the class of an earlier start, and whether anything of it is finished; `first` is the class of the first
/// worker that has the device.
pub fn choose(device: Device, journaled: Option<(&str, bool)>, first: &str) -> Result<String> {
    match journaled {
        Some((class, _)) if device.has(class) => Ok(class.to_owned()),
        Some((class, true)) => Err(other_class(class, device.as_str())),
        _ => Ok(first.to_owned()),
    }
}

/// What was begun in one class cannot be finished in another.
pub fn other_class(begun: &str, asked: &str) -> Error {
    Error::new(
        Kind::OutputExists,
        format!("the merge was begun in device class {begun}, parts of it are finished, and {asked} was asked for"),
    )
    .hint("go on with the device that began it, or discard what is there with --restart")
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: &str = "cuda:90:132:12.8.4";

    #[test]
    fn classes_are_cpu_or_four_fields() {
        for good in ["cpu", H100, "cuda:8.6:84:120804"] {
            assert!(is_class(good), "{good}");
        }
        let long = format!("cuda:90:132:{}", "1".repeat(80));
        for bad in ["", "gpu", "cuda", "cuda:90:132", "cuda:90::12", "cuda:90:132:12:8", "cpu:1", "cuda:9 0:1:2", &long]
        {
            assert!(!is_class(bad), "{bad}");
        }
    }

    #[test]
    fn what_was_begun_in_a_class_is_finished_in_it() {
        assert_eq!(choose(Device::Cuda, None, H100).unwrap(), H100);
        assert_eq!(choose(Device::Cuda, Some(("cuda:80:108:12.8.4", true)), H100).unwrap(), "cuda:80:108:12.8.4");
        assert_eq!(choose(Device::Cpu, Some((H100, false)), "cpu").unwrap(), "cpu");
        let refused = choose(Device::Cpu, Some((H100, true)), "cpu").unwrap_err();
        assert!(refused.message().contains(H100) && refused.message().contains("cpu"), "{refused}");
    }
}
