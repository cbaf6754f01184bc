//! Sizes in bytes, as people write them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind, Result};

/// A number of bytes. As text: `64MiB`, `5GB`, `1.5 GiB` or plain bytes. KB, MB, GB are powers of 1000; KiB, MiB, GiB (and K, M,
/// G) of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl FromStr for Size {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::new(Kind::Usage, format!("{text:?} is not a size")).hint("such as 512MiB, 5GB or 1073741824");
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(wrong()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).filter(|bytes| *bytes < 1 << 63).map(Size).ok_or_else(wrong);
        }
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = number * factor as f64;
        if bytes.is_finite() && (0.0..9e18).contains(&bytes) { Ok(Size(bytes as u64)) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        for (text, bytes) in [
            ("512", 512),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("5GB", 5_000_000_000),
            ("1.5GiB", 3 << 29),
            ("2G", 2 << 30),
        ] {
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "5 parsecs", "1e400", "99999999999999999999", "9999999TB"] {
            assert_eq!(text.parse::<Size>().unwrap_err().kind(), Kind::Usage, "{text}");
        }
    }

    #[test]
    fn a_size_that_is_shown_is_read_back() {
        for bytes in [0, 1, 1023, 1024, 1536, 64 << 20, 5_000_000_000, (1 << 63) - 1, 3 << 50] {
            assert_eq!(Size(bytes).to_string().parse::<Size>().unwrap(), Size(bytes));
        }
        assert_eq!((Size(64 << 20).to_string(), Size(1500).to_string()), ("64MiB".into(), "1500".into()));
    }
}
