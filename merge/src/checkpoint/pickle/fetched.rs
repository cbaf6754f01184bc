//! The parts of an object that have been fetched so far.

use std::collections::BTreeMap;
use std::ops::Range;

/// Segments by their offset. They never touch: what does is joined, so that a range is looked up in one step.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    segments: BTreeMap<u64, Vec<u8>>,
}

impl Fetched {
    /// Adds bytes; where some are known already, the known ones stay.
    pub(super) fn add(&mut self, offset: u64, bytes: Vec<u8>) {
        if bytes.is_empty() || offset.checked_add(bytes.len() as u64).is_none() {
            return;
        }
        let before = self.segments.range(..=offset).next_back().map(|(start, segment)| (*start, end(*start, segment)));
        let start = match before {
            Some((start, known_to)) if known_to >= offset => {
                self.extend(start, offset, &bytes);
                start
            }
            _ => {
                self.segments.insert(offset, bytes);
                offset
            }
        };
        while let Some(next) = self.touching(start) {
            if let Some(bytes) = self.segments.remove(&next) {
                self.extend(start, next, &bytes);
            }
        }
    }

    /// The bytes of a range, if all of them are here.
    pub(super) fn get(&self, range: &Range<u64>) -> Option<&[u8]> {
        if range.is_empty() {
            return Some(&[]);
        }
        let (start, segment) = self.segments.range(..=range.start).next_back()?;
        let from = usize::try_from(range.start - start).ok()?;
        let to = usize::try_from(range.end - start).ok()?;
        segment.get(from..to)
    }

    /// Appends to the segment at `start` what `bytes`, which begin at `offset`, have beyond its end.
    fn extend(&mut self, start: u64, offset: u64, bytes: &[u8]) {
        if let Some(segment) = self.segments.get_mut(&start) {
            let known = (end(start, segment) - offset) as usize;
            segment.extend_from_slice(bytes.get(known..).unwrap_or_default());
        }
    }

    fn touching(&self, start: u64) -> Option<u64> {
        let end = end(start, self.segments.get(&start)?);
        self.segments.range(start + 1..=end).next().map(|(next, _)| *next)
    }
}

fn end(start: u64, segment: &[u8]) -> u64 {
    start + segment.len() as u64
}
