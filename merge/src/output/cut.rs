//! Where a file is cut into parts.
//!
//! Without copies by the store all parts have one size. With them a part is either unchanged, and the store copies it, or it is
//! made. The edges of changed tensors lie anywhere, so parts around them are cut in halves down to the smallest size that pays,
//! and unchanged neighbours grow together up to the largest piece that is copied at once.

use std::ops::Range;

use super::parts::Parts;
use super::unchanged::{Run, holding};
use crate::inventory::Grain;
use crate::limits::MAX_PART;
use crate::spec::MAX_PARTS;

/// How many parts of the usual size the largest copy has. A worker has the memory for so many, should the store refuse to copy.
const LARGEST: u64 = 4;

/// Cuts a file of `size` bytes, of which these runs do not change, into parts of `part` bytes; with a grain into larger and
/// smaller ones.
pub(super) fn cut(size: u64, runs: &[Run], part: u64, grain: Option<Grain>) -> Parts {
    let Some(Grain { least }) = grain else { return Parts::even(size, part) };
    let mut cutting = Cutting { size, runs, part, least: least.min(part), ends: Vec::new() };
    loop {
        cutting.all();
        let fits = cutting.ends.len() as u64 <= MAX_PARTS;
        match cutting.least < part {
            true if !fits => cutting.least *= 2,
            false if !fits => return Parts::even(size, part),
            _ => return Parts::new(cutting.ends),
        }
    }
}

struct Cutting<'a> {
    size: u64,
    runs: &'a [Run],
    part: u64,
    least: u64,
    ends: Vec<u64>,
}

/// What a cell became.
#[derive(PartialEq)]
enum Cell {
    /// Nothing of it is in the file.
    Outside,
    /// One part that is made.
    Made,
    /// Anything else.
    Other,
}

impl Cutting<'_> {
    fn all(&mut self) {
        self.ends.clear();
        let largest = (LARGEST * self.part).min(MAX_PART).max(self.part);
        for start in (0..self.size).step_by(largest as usize) {
            self.cell(start, largest);
        }
    }

    /// Cuts the cell of `length` bytes, a power of two, that begins at a multiple of it.
    fn cell(&mut self, start: u64, length: u64) -> Cell {
        if start >= self.size {
            return Cell::Outside;
        }
        let bytes = start..(start + length).min(self.size);
        if holding(self.runs, &bytes).is_some() {
            self.ends.push(bytes.end);
            return Cell::Other;
        }
        if length <= self.least || (length <= self.part && !self.holds_unchanged(&bytes)) {
            self.ends.push(bytes.end);
            return Cell::Made;
        }
        let half = length / 2;
        let (left, right) = (self.cell(start, half), self.cell(start + half, half));
        // Halves that are made anyway are one part, up to the usual size.
        if length <= self.part && left == Cell::Made && matches!(right, Cell::Made | Cell::Outside) {
            if right == Cell::Made {
                self.ends.pop();
            }
            self.ends.pop();
            self.ends.push(bytes.end);
            return Cell::Made;
        }
        Cell::Other
    }

    /// Whether a run holds at least as many of these bytes as the smallest part has.
    fn holds_unchanged(&self, bytes: &Range<u64>) -> bool {
        let first = self.runs.partition_point(|run| run.bytes.end <= bytes.start);
        let within = self.runs[first..].iter().take_while(|run| run.bytes.start < bytes.end);
        within.map(|run| run.bytes.end.min(bytes.end) - run.bytes.start.max(bytes.start)).any(|n| n >= self.least)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inventory::ObjectId;

    const PART: u64 = 64;
    const GRAIN: Option<Grain> = Some(Grain { least: 8 });

    fn run(bytes: Range<u64>) -> Run {
        Run { bytes, object: ObjectId(0), from: 1000 }
    }

    fn lengths(parts: &Parts) -> Vec<u64> {
        parts.iter().map(|part| part.end - part.start).collect()
    }

    #[test]
    fn without_a_grain_all_parts_have_one_size() {
        assert_eq!(lengths(&cut(200, &[run(10..200)], PART, None)), [64, 64, 64, 8]);
    }

    #[test]
    fn what_does_not_change_is_cut_from_what_is_made() {
        // The first 10 bytes are made: a part of 16 holds them, and all after it are copied.
        assert_eq!(lengths(&cut(200, &[run(10..200)], PART, GRAIN)), [16, 16, 32, 64, 72]);
        // One changed tensor at 70..90 of an unchanged file.
        let parts = cut(256, &[run(0..70), run(90..256)], PART, GRAIN);
        assert_eq!(lengths(&parts), [64, 32, 32, 128]);
        // A file that changes throughout keeps parts of the usual size.
        assert_eq!(lengths(&cut(200, &[], PART, GRAIN)), [64, 64, 64, 8]);
    }

    #[test]
    fn unchanged_neighbours_grow_up_to_the_largest_piece() {
        let (largest, size) = (LARGEST * PART, 3 * LARGEST * PART + 5);
        assert_eq!(lengths(&cut(size, &[run(0..size)], PART, GRAIN)), [largest, largest, largest, 5]);
    }

    #[test]
    fn a_file_of_too_many_pieces_is_cut_coarser() {
        // Every second piece of 8 bytes changes: 25,000 parts if each were cut.
        let size = 8 * 25_000;
        let runs: Vec<Run> = (0..12_500).map(|n| run(16 * n..16 * n + 8)).collect();
        let parts = cut(size, &runs, PART, GRAIN);
        assert!(u64::from(parts.count()) <= MAX_PARTS, "{}", parts.count());
        assert_eq!(parts.get(parts.count() - 1).unwrap().end, size);
    }

    proptest! {
        #[test]
        fn parts_cover_the_file_and_each_is_a_subtree(
            size in 1u64..5000,
            edges in prop::collection::vec(0u64..5000, 0..12),
        ) {
            let mut edges: Vec<u64> = edges.into_iter().map(|edge| edge.min(size)).collect();
            edges.sort_unstable();
            let runs: Vec<Run> = edges.chunks_exact(2).filter(|e| e[0] < e[1]).map(|e| run(e[0]..e[1])).collect();
            let parts = cut(size, &runs, PART, GRAIN);
            let mut at = 0;
            for part in parts.iter() {
                prop_assert_eq!(part.start, at);
                let length = part.end - part.start;
                prop_assert!(length > 0);
                let cell = length.next_power_of_two();
                prop_assert!(part.start.is_multiple_of(cell), "{:?}", part);
                prop_assert!(part.end == size || length.is_power_of_two(), "{:?}", part);
                prop_assert!(part.end == size || length >= 8);
                prop_assert!(length <= PART || holding(&runs, &part).is_some(), "{:?} is made", part);
                at = part.end;
            }
            prop_assert_eq!(at, size);
            // Every aligned piece of the smallest size that does not change lies in a part that does not.
            for start in (0..size / 8).map(|n| n * 8) {
                if holding(&runs, &(start..start + 8)).is_some() {
                    let number = parts.touching(&(start..start + 8));
                    prop_assert_eq!(number.len(), 1);
                    prop_assert!(holding(&runs, &parts.get(number.start).unwrap()).is_some(), "{}", start);
                }
            }
        }
    }
}
