//! Which bytes of its tensors rows of a parameter are made of.

use std::ops::Range;

use crate::base::scheme::claim::{Stretch, lines_of};
use crate::inventory::Source;

/// What rows of a parameter use of one of its tensors.
pub(super) struct Lane<'a> {
    tensor: usize,
    source: &'a Source,
    share: Share,
}

enum Share {
    /// The tensor has so many lines, `num` for each `den` rows of the parameter.
    Lines { all: u64, num: u64, den: u64 },
    /// Every row uses all of it.
    Whole,
}

impl<'a> Lane<'a> {
    /// A tensor with a line for each row of the parameter.
    pub(super) fn rows((tensor, source): (usize, &'a Source), rows: u64) -> Lane<'a> {
        Lane { tensor, source, share: Share::Lines { all: rows, num: 1, den: 1 } }
    }

    /// A tensor whose lines are words of 32 bits, with so many bits for each row of the parameter.
    pub(super) fn words((tensor, source): (usize, &'a Source), rows: u64, bits: u64) -> Lane<'a> {
        Lane { tensor, source, share: Share::Lines { all: (rows * bits).div_ceil(32), num: bits, den: 32 } }
    }

    /// A tensor that every row uses.
    pub(super) fn whole((tensor, source): (usize, &'a Source)) -> Lane<'a> {
        Lane { tensor, source, share: Share::Whole }
    }

    /// The bytes that rows use.
    pub(super) fn stretch(&self, rows: &Range<u64>) -> Stretch {
        let bytes = match self.share {
            Share::Lines { all, num, den } => {
                let line = self.source.bytes() / all;
                rows.start * num / den * line..(rows.end * num).div_ceil(den) * line
            }
            Share::Whole => 0..self.source.bytes(),
        };
        Stretch { tensor: self.tensor, bytes }
    }

    /// What some of the `height` rows use, as a tensor of its own. `None` if a line holds other rows too.
    fn portion(&self, rows: &Range<u64>, height: u64) -> Option<Source> {
        let Share::Lines { all, num, den } = self.share else { return Some(self.source.clone()) };
        let ends = rows.end == height || (rows.end * num).is_multiple_of(den);
        if !ends || !(rows.start * num).is_multiple_of(den) {
            return None;
        }
        let lines = rows.start * num / den..(rows.end * num).div_ceil(den);
        let shape = std::iter::once(lines.end - lines.start).chain(self.source.shape.iter().skip(1).copied()).collect();
        lines_of(self.source, lines, all, shape)
    }
}

/// What some of the `height` rows use, as tensors of their own, in the order of the tensors. What no row uses is left out.
pub(super) fn portion(lanes: &[Lane<'_>], rows: &Range<u64>, height: u64) -> Option<Vec<Source>> {
    (rows.start < rows.end && rows.end <= height).then_some(())?;
    lanes.iter().map(|lane| lane.portion(rows, height)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::ObjectId;
    use crate::tensor::Dtype;

    #[test]
    fn rows_use_their_lines_their_words_or_all() {
        let tensor = |shape: &[u64]| Source {
            name: "t".into(),
            object: ObjectId(0),
            offset: 100,
            dtype: Dtype::I32,
            shape: shape.into(),
        };
        // 12 rows: a line each, 4 bits each, and all of a tensor.
        let (lines, words, whole) = (tensor(&[12, 3]), tensor(&[2, 5]), tensor(&[7]));
        let lanes = [Lane::rows((0, &lines), 12), Lane::words((1, &words), 12, 4), Lane::whole((2, &whole))];
        let bytes = |rows| lanes.iter().map(|lane| lane.stretch(&rows).bytes).collect::<Vec<_>>();
        assert_eq!(bytes(0..8), [0..96, 0..20, 0..28]);
        assert_eq!(bytes(7..9), [84..108, 0..40, 0..28], "of both words");
        assert_eq!(bytes(9..12), [108..144, 20..40, 0..28]);
        let of = |rows| portion(&lanes, &rows, 12);
        let apart = of(8..12).unwrap().into_iter().map(|t| (t.offset, t.shape)).collect::<Vec<_>>();
        assert_eq!(apart, [(196, vec![4, 3]), (120, vec![1, 5]), (100, vec![7])]);
        assert!([7..12, 8..9, 4..4, 8..13].into_iter().all(|rows| of(rows).is_none()), "a word holds other rows too");
    }
}
