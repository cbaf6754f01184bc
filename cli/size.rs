//! Sizes as they are shown, and rates.

use std::num::NonZeroU64;
use std::str::FromStr;

use shardfuse_merge::spec::Size;
use shardfuse_merge::{Error, Kind, Result};

/// Bytes in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub NonZeroU64);

impl FromStr for Rate {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let Size(bytes) = text.parse()?;
        NonZeroU64::new(bytes).map(Rate).ok_or_else(|| {
            Error::new(Kind::Usage, format!("{text} writes nothing, expected at least one byte a second"))
                .hint("leave it out to write without a limit")
        })
    }
}

pub use shardfuse_merge::units::bytes as show;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_size_above_zero() {
        assert_eq!("1KiB".parse(), Ok(Rate(NonZeroU64::new(1024).unwrap())));
        for wrong in ["0", "0KiB", "fast"] {
            assert_eq!(wrong.parse::<Rate>().unwrap_err().kind(), Kind::Usage, "{wrong}");
        }
    }
}
