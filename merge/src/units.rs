//! Numbers of bytes as people read them.

/// `13.5 GB`: decimal, as disks and hubs count.
///
/// ```
/// use shardfuse_merge::units::bytes;
/// assert_eq!((bytes(999), bytes(1_500), bytes(13_476_831_232)), ("999 B".into(), "1.5 kB".into(), "13.5 GB".into()));
/// ```
pub fn bytes(count: u64) -> String {
    if count < 1000 {
        return format!("{count} B");
    }
    let (mut value, mut unit) = (count as f64 / 1000.0, "kB");
    for larger in ["MB", "GB", "TB"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_rounds_to_a_thousand_has_the_next_unit() {
        for (count, text) in [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_499, "999.5 kB"), (999_500, "1.0 MB")]
        {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
    }
}
