//! Which bytes of a file are those of an input.

use std::ops::Range;

use crate::inventory::ObjectId;
use crate::recipe::{Placed, Recipe};

/// Bytes of a file that are one contiguous range of one input, as long as they can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The bytes of the file.
    pub bytes: Range<u64>,
    /// The input.
    pub object: ObjectId,
    /// Where they begin in the input.
    pub from: u64,
}

impl Run {
    /// Where bytes of the file lie in the input.
    ///
    /// # Panics
    /// If they are not of this run.
    pub fn source(&self, bytes: &Range<u64>) -> Range<u64> {
        assert!(self.bytes.start <= bytes.start && bytes.end <= self.bytes.end, "{bytes:?} of {:?}", self.bytes);
        let from = self.from + (bytes.start - self.bytes.start);
        from..from + (bytes.end - bytes.start)
    }
}

/// The runs of tensors, which are in the order of their data. Tensors of which nothing is written count for nothing.
pub fn runs<'a>(tensors: impl IntoIterator<Item = &'a Placed>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for tensor in tensors.into_iter().filter(|tensor| tensor.length > 0) {
        let Recipe::Copy(source) = &tensor.recipe else { continue };
        let bytes = tensor.offset..tensor.offset + tensor.length;
        match runs.last_mut() {
            Some(run)
                if run.object == source.object
                    && run.bytes.end == bytes.start
                    && run.from + (run.bytes.end - run.bytes.start) == source.offset =>
            {
                run.bytes.end = bytes.end;
            }
            _ => runs.push(Run { bytes, object: source.object, from: source.offset }),
        }
    }
    runs
}

/// The run that holds all of some bytes.
pub fn holding<'a>(runs: &'a [Run], bytes: &Range<u64>) -> Option<&'a Run> {
    let at = runs.partition_point(|run| run.bytes.end <= bytes.start);
    runs.get(at).filter(|run| run.bytes.start <= bytes.start && bytes.end <= run.bytes.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Source;
    use crate::recipe::{Fuse, Start};
    use crate::tensor::Dtype;

    const SHAPE: [u64; 1] = [4];

    fn tensor(at: u64, object: u32, from: u64, changed: bool) -> Placed {
        let (object, dtype) = (ObjectId(object), Dtype::BF16);
        let source = Source { name: "t".into(), object, offset: from, dtype, shape: SHAPE.into() };
        let recipe = match changed {
            false => Recipe::Copy(source),
            true => {
                let start = Start::plain(source).unwrap();
                Recipe::Fuse(Fuse { start, start_adapter: None, steps: Vec::new(), keep_non_finite: false })
            }
        };
        Placed { name: "t".into(), dtype, shape: SHAPE.into(), offset: at, length: 8, recipe, portion: None }
    }

    #[test]
    fn neighbours_in_both_files_are_one_run() {
        let tensors = [tensor(100, 0, 60, false), tensor(108, 0, 68, false), tensor(116, 0, 76, true)];
        let expected = Run { bytes: 100..116, object: ObjectId(0), from: 60 };
        assert_eq!(runs(&tensors), std::slice::from_ref(&expected));
        assert_eq!(expected.source(&(104..110)), 64..70);
        assert_eq!(holding(&runs(&tensors), &(101..116)), Some(&expected));
        assert_eq!(holding(&runs(&tensors), &(101..117)), None, "the last byte is of a tensor that changes");
        assert_eq!(holding(&runs(&tensors), &(99..104)), None);
    }

    #[test]
    fn a_gap_another_input_and_a_change_end_a_run() {
        for (second, why) in [
            (tensor(108, 0, 70, false), "a gap in the input"),
            (tensor(110, 0, 68, false), "a gap in the file"),
            (tensor(108, 1, 68, false), "another input"),
        ] {
            assert_eq!(runs(&[tensor(100, 0, 60, false), second]).len(), 2, "{why}");
        }
        let around = [tensor(100, 0, 60, false), tensor(108, 0, 68, true), tensor(116, 0, 76, false)];
        assert_eq!(runs(&around).iter().map(|run| run.bytes.clone()).collect::<Vec<_>>(), [100..108, 116..124]);
    }
}
