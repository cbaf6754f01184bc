//! Device classes: whose bits an output has.
//!
//! Two devices of one class round every sum in the same way, so a merge has one class, fixed before its first task.
//!
//! ```text
//! cpu
//! cuda:sm90:132:12.8.4      compute capability, multiprocessors, version of cuBLAS
//! ```
//!
//! This is the form that is written. Read are also the forms that earlier versions documented or wrote: a compute capability as
//! `90` or `9.0`, and a cuBLAS version as the number `120804`. They are the same class.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};

/// The longest class that is read, in bytes.
const MAX: usize = 64;

/// A class of devices that give the same bits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceClass {
    /// A processor, of any make.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda(Cuda),
}

/// What decides the bits that a GPU gives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cuda {
    capability: String,
    processors: String,
    blas: String,
}

impl DeviceClass {
    /// A GPU of a compute capability (major, minor), with so many multiprocessors, and cuBLAS of a version as it tells it:
    /// 120804 is 12.8.4.
    pub fn cuda((major, minor): (u32, u32), processors: u32, blas: u32) -> DeviceClass {
        DeviceClass::Cuda(Cuda {
            capability: format!("sm{major}{minor}"),
            processors: processors.to_string(),
            blas: dotted(blas),
        })
    }

    /// Whether this is a class of GPUs.
    pub fn is_cuda(&self) -> bool {
        matches!(self, DeviceClass::Cuda(_))
    }
}

fn dotted(blas: u32) -> String {
    format!("{}.{}.{}", blas / 10_000, blas / 100 % 100, blas % 100)
}

/// A compute capability in the form that is written, from each of the forms that are read.
fn capability(text: &str) -> String {
    let digits = match text.strip_prefix("sm") {
        Some(digits) => digits.to_owned(),
        None => match text.split_once('.') {
            Some((major, minor)) if minor.len() == 1 => format!("{major}{minor}"),
            _ => text.to_owned(),
        },
    };
    match digits.len() >= 2 && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => format!("sm{digits}"),
        false => text.to_owned(),
    }
}

/// A cuBLAS version, likewise.
fn blas(text: &str) -> String {
    match text.parse::<u32>() {
        Ok(number) if number >= 10_000 => dotted(number),
        _ => text.to_owned(),
    }
}

impl fmt::Display for DeviceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceClass::Cpu => f.write_str("cpu"),
            DeviceClass::Cuda(Cuda { capability, processors, blas }) => {
                write!(f, "cuda:{capability}:{processors}:{blas}")
            }
        }
    }
}

impl FromStr for DeviceClass {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let plain = |f: &str| !f.is_empty() && f.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        match text.split(':').collect::<Vec<_>>().as_slice() {
            ["cpu"] => Ok(DeviceClass::Cpu),
            ["cuda", fields @ ..] if text.len() <= MAX && fields.iter().all(|f| plain(f)) => match fields {
                [sm, processors, version] => Ok(DeviceClass::Cuda(Cuda {
                    capability: capability(sm),
                    processors: (*processors).to_owned(),
                    blas: blas(version),
                })),
                _ => Err(unknown(text)),
            },
            _ => Err(unknown(text)),
        }
    }
}

fn unknown(text: &str) -> Error {
    let shown: String = text.chars().take(MAX + 16).collect();
    Error::new(
        Kind::Usage,
        format!(
            "{shown:?} is no device class, expected cpu or cuda:sm<compute capability>:<multiprocessors>:<cuBLAS version>"
        ),
    )
}

impl TryFrom<String> for DeviceClass {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<DeviceClass> for String {
    fn from(class: DeviceClass) -> String {
        class.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> DeviceClass {
        text.parse().unwrap()
    }

    #[test]
    fn what_a_worker_writes_is_read_as_the_same_class() {
        let class = DeviceClass::cuda((9, 0), 132, 120_804);
        assert_eq!(class.to_string(), "cuda:sm90:132:12.8.4");
        assert_eq!(read(&class.to_string()), class);
        assert_eq!((read("cpu"), DeviceClass::Cpu.to_string()), (DeviceClass::Cpu, "cpu".to_owned()));
    }

    #[test]
    fn every_form_that_was_written_or_documented_is_the_same_class() {
        for (old, now) in [
            ("cuda:90:132:12.8.4", "cuda:sm90:132:12.8.4"),
            ("cuda:9.0:132:120804", "cuda:sm90:132:12.8.4"),
            ("cuda:8.6:84:120804", "cuda:sm86:84:12.8.4"),
            ("cuda:sm120:170:12.9.1", "cuda:sm120:170:12.9.1"),
            // What is in none of these forms stays as it is.
            ("cuda:next:1:13", "cuda:next:1:13"),
        ] {
            assert_eq!(read(old), read(now), "{old}");
            assert_eq!(read(old).to_string(), now);
        }
    }

    #[test]
    fn classes_that_differ_in_a_field_are_others() {
        let class = read("cuda:sm90:132:12.8.4");
        for other in ["cpu", "cuda:sm80:132:12.8.4", "cuda:sm90:114:12.8.4", "cuda:sm90:132:12.8.5"] {
            assert_ne!(read(other), class);
        }
    }

    #[test]
    fn what_is_no_class_is_refused_and_named() {
        let long = format!("cuda:90:132:{}", "1".repeat(80));
        for bad in ["", "gpu", "cuda", "cuda:90:132", "cuda:90::12", "cuda:90:132:12:8", "cpu:1", "cuda:9 0:1:2", &long]
        {
            let refused = bad.parse::<DeviceClass>().unwrap_err();
            assert!(refused.message().contains("expected cpu or cuda"), "{bad}: {refused}");
        }
    }

    #[test]
    fn records_hold_it_as_text() {
        let class = read("cuda:90:132:12.8.4");
        let json = serde_json::to_string(&class).unwrap();
        assert_eq!(json, r#""cuda:sm90:132:12.8.4""#);
        assert_eq!(serde_json::from_str::<DeviceClass>(r#""cuda:90:132:12.8.4""#).unwrap(), class);
        assert!(serde_json::from_str::<DeviceClass>(r#""gpu""#).is_err());
    }
}
