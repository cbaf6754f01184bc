//! How a file is cut into parts.
//!
//! Every part but the last is a power of two of bytes and begins at a multiple of its own size. So each is a whole subtree of
//! the file's BLAKE3 tree, whatever the sizes of the others are.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The parts of a file, in order and without gaps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// One past the last byte of each.
    ends: Vec<u64>,
}

impl Parts {
    /// Parts of one size; the last may be shorter. A file without bytes has none.
    ///
    /// # Panics
    /// If the size of a part is 0.
    pub fn even(size: u64, part: u64) -> Parts {
        Parts { ends: (1..=size.div_ceil(part)).map(|number| (number * part).min(size)).collect() }
    }

    /// Parts that follow one another from byte 0.
    pub(super) fn new(ends: Vec<u64>) -> Parts {
        Parts { ends }
    }

    /// Parts that end here, as a manifest has them; `None` if they are not those of a file of `size` bytes.
    pub fn read(ends: &[u64], size: u64) -> Option<Parts> {
        let sorted = ends.windows(2).all(|pair| pair[0] < pair[1]) && ends.first().is_some_and(|end| *end > 0);
        (sorted && ends.last() == Some(&size)).then(|| Parts { ends: ends.to_vec() })
    }

    /// How many they are.
    pub fn count(&self) -> u32 {
        self.ends.len() as u32
    }

    /// The bytes of a part; `None` if there is no such part.
    pub fn get(&self, number: u32) -> Option<Range<u64>> {
        let end = *self.ends.get(number as usize)?;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before as usize]);
        Some(start..end)
    }

    /// The bytes of each part.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + ExactSizeIterator {
        (0..self.ends.len())
            .map(|number| number.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[number])
    }

    /// The numbers of the parts that some bytes touch.
    pub fn touching(&self, bytes: &Range<u64>) -> Range<u32> {
        if bytes.is_empty() {
            return 0..0;
        }
        let number = |at: u64| self.ends.partition_point(|end| *end <= at) as u32;
        number(bytes.start)..number(bytes.end - 1).saturating_add(1).min(self.count())
    }

    /// The bytes of some neighbours together.
    pub fn span(&self, numbers: &Range<u32>) -> Range<u64> {
        let start = self.get(numbers.start).map_or(0, |part| part.start);
        let end = numbers.end.checked_sub(1).and_then(|last| self.get(last)).map_or(start, |part| part.end);
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_parts_cover_the_file() {
        let parts = Parts::even(2500, 1024);
        assert_eq!(parts.iter().collect::<Vec<_>>(), [0..1024, 1024..2048, 2048..2500]);
        assert_eq!((parts.count(), parts.get(2), parts.get(3)), (3, Some(2048..2500), None));
        assert_eq!(Parts::even(2048, 1024).iter().collect::<Vec<_>>(), [0..1024, 1024..2048]);
        assert_eq!(Parts::even(0, 1024).count(), 0);
    }

    #[test]
    fn bytes_touch_the_parts_that_hold_one_of_them() {
        let parts = Parts::new(vec![1024, 2048, 4096, 5000]);
        for (bytes, touched) in
            [(0..1, 0..1), (1023..1024, 0..1), (1023..1025, 0..2), (2048..4096, 2..3), (4095..5000, 2..4), (7..7, 0..0)]
        {
            assert_eq!(parts.touching(&bytes), touched, "{bytes:?}");
        }
        assert_eq!(parts.span(&(1..3)), 1024..4096);
        assert_eq!(parts.span(&(2..2)), 2048..2048);
    }
}
