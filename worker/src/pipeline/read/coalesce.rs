//! Few reads instead of many: ranges that lie close together are read as one.

use std::ops::Range;

/// A gap that is read rather than skipped, in bytes: on an object store a request costs about as much as a megabyte.
pub const GAP: u64 = 1 << 20;
/// Small ranges are put together up to this length, in bytes; a range that is longer by itself stays whole.
pub const MOST: u64 = 8 << 20;

/// Ranges that cover all of `ranges`, sorted and disjoint. Neighbours at most `gap` apart become one, as long as it is at
/// most `most` long or they overlap. Each of `ranges` lies within exactly one.
pub fn coalesce(ranges: &[Range<u64>], gap: u64, most: u64) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = ranges.iter().filter(|r| r.start < r.end).cloned().collect();
    sorted.sort_unstable_by_key(|r| (r.start, r.end));
    let mut out: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match out.last_mut() {
            Some(last)
                if range.start < last.end
                    || (range.start - last.end <= gap && range.end.max(last.end) - last.start <= most) =>
            {
                last.end = last.end.max(range.end);
            }
            _ => out.push(range),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
    fn neighbours_become_one_up_to_a_gap_and_a_length() {
        assert_eq!(coalesce(&[0..10, 12..20], 2, 100), [0..20]);
        assert_eq!(coalesce(&[0..10, 13..20], 2, 100), [0..10, 13..20], "the gap is too wide");
        assert_eq!(coalesce(&[0..10, 10..20], 2, 15), [0..10, 10..20], "together they are too long");
        assert_eq!(coalesce(&[0..40, 30..50], 0, 15), [0..50], "what overlaps is read once, whatever its length");
        assert_eq!(coalesce(&[12..20, 0..10], 2, 100), [0..20], "order does not matter");
        assert_eq!(coalesce(&[5..5], 2, 100), [], "nothing is read for nothing");
    }

    proptest! {
        #[test]
        fn every_range_lies_in_exactly_one_read(
            ranges in prop::collection::vec((0u64..500, 0u64..60).prop_map(|(a, n)| a..a + n), 0..30),
            gap in 0u64..40,
            most in 1u64..200,
        ) {
            let reads = coalesce(&ranges, gap, most);
            for pair in reads.windows(2) {
                prop_assert!(pair[0].end <= pair[1].start);
            }
            for range in ranges.iter().filter(|r| r.start < r.end) {
                let within = reads.iter().filter(|r| r.start <= range.start && range.end <= r.end);
                prop_assert_eq!(within.count(), 1);
            }
            let asked: std::collections::BTreeSet<u64> = ranges.iter().cloned().flatten().collect();
            let read: u64 = reads.iter().map(|r| r.end - r.start).sum();
            let gaps = reads.iter().flat_map(|r| r.clone()).filter(|b| !asked.contains(b)).count() as u64;
            prop_assert!(gaps <= gap * ranges.len() as u64);
            prop_assert_eq!(read, asked.len() as u64 + gaps);
        }
    }
}
