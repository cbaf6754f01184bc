//! Sizes in bytes and times, as people write them.

use std::time::Duration;

use shardfuse_merge::{Error, Kind, Result};

/// Parses `64MiB`, `5GB`, `1.5 GiB` or plain bytes. KB, MB, GB are powers of 1000; KiB, MiB, GiB (and K, M, G) of 1024.
pub fn parse(flag: &str, text: &str) -> Result<u64> {
    let wrong = || {
        Error::new(Kind::Usage, format!("{flag} is {text:?}, expected a size"))
            .hint("such as 512MiB, 5GB or 1073741824")
    };
    let text_trimmed = text.trim();
    let split = text_trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text_trimmed.len());
    let (number, unit) = text_trimmed.split_at(split);
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
        return whole.checked_mul(factor).filter(|bytes| *bytes < 1 << 63).ok_or_else(wrong);
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * factor as f64;
    if bytes.is_finite() && (0.0..9e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Parses a time: `25s`, `2m`, `500ms` or plain seconds.
pub fn parse_time(flag: &str, text: &str) -> Result<Duration> {
    let wrong =
        || Error::new(Kind::Usage, format!("{flag} is {text:?}, expected a time")).hint("such as 25s, 2m or 25");
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
    // A week and more is a slip, and no clock overflows below it.
    milliseconds.filter(|ms| *ms <= 7 * 24 * 3_600_000).map(Duration::from_millis).ok_or_else(wrong)
}

/// `13.5 GB`: decimal, as disks and hubs count.
pub fn show(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 999.5 || unit == "TB" {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    unreachable!("the last unit returns")
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
            assert_eq!(parse("--memory", text).unwrap(), bytes, "{text}");
        }
        for text in ["", "MiB", "-1", "5 parsecs", "1e400", "99999999999999999999", "9999999TB"] {
            assert_eq!(parse("--memory", text).unwrap_err().kind(), Kind::Usage, "{text}");
        }
    }

    #[test]
    fn times_are_read_as_written() {
        for (text, ms) in [("25", 25_000), ("25s", 25_000), ("2m", 120_000), ("500ms", 500), ("0s", 0)] {
            assert_eq!(parse_time("--grace", text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "8000h", "99999999999999999999s", "5 s"] {
            assert_eq!(parse_time("--grace", text).unwrap_err().kind(), Kind::Usage, "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_decimal_units() {
        assert_eq!((show(999), show(1_500), show(13_476_831_232)), ("999 B".into(), "1.5 kB".into(), "13.5 GB".into()));
    }
}
