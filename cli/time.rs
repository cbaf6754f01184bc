//! Times, as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use shardfuse_merge::{Error, Kind, Result};

/// A time: `25s`, `2m`, `500ms` or plain seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for Time {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::new(Kind::Usage, format!("{text:?} is not a time")).hint("such as 25s, 2m or 25");
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let milliseconds = match unit {
            "" | "s" => number.checked_mul(1000),
            "ms" => Some(number),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            _ => None,
        };
        // More than a week is a slip, and no clock overflows below it.
        let within = milliseconds.filter(|ms| *ms <= 7 * 24 * 3_600_000);
        within.map(|ms| Time(Duration::from_millis(ms))).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_written() {
        for (text, ms) in [("25", 25_000), ("25s", 25_000), ("2m", 120_000), ("500ms", 500), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(Time(Duration::from_millis(ms))), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "8000h", "99999999999999999999s", "5 s"] {
            assert_eq!(text.parse::<Time>().unwrap_err().kind(), Kind::Usage, "{text}");
        }
    }
}
