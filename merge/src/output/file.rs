//! A weight file of the output.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::cut::cut;
use super::format::Format;
use super::parts::Parts;
use super::segment::{Segment, Span};
use super::unchanged::{holding, runs};
use crate::error::Result;
use crate::inventory::{Grain, ObjectId};
use crate::recipe::Placed;

/// A weight file of the output: a list of segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputFile {
    /// The file's name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its format, with what the format has to know about it.
    pub format: Format,
    /// The literal bytes, in order.
    pub literals: Vec<Span>,
    /// Its tensors, in the order of their data.
    pub tensors: Vec<Placed>,
    /// The bytes at its end that can only be written after all others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub trailer: u64,
    /// The parts in which it is uploaded. They change no byte of it, so they are stored beside the files.
    #[serde(skip)]
    pub cut: Cut,
}

/// How a file is uploaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Its parts.
    pub parts: Parts,
    /// Whether the store is asked to copy those that do not change.
    pub copied: bool,
}

/// How a file of the output is made.
#[derive(Debug, Clone, Copy)]
pub struct Making {
    /// Where the data of the base's file begin, if there is one of the same format.
    pub after: Option<u64>,
    /// The usual size of a part in bytes.
    pub part_size: u64,
    /// How fine the file is cut where the store copies what does not change; `None` where it does not.
    pub grain: Option<Grain>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl OutputFile {
    /// Gives the tensors their places in a file of this format.
    ///
    /// # Errors
    /// `unsupported` for a tensor that the format cannot hold.
    pub fn new(name: String, format: Format, mut tensors: Vec<Placed>, making: Making) -> Result<OutputFile> {
        let places = format.place(&mut tensors, making.after)?;
        let (literals, trailer, size) = (places.literals, places.trailer, places.size);
        let parts = cut(size, &runs(&tensors), making.part_size, making.grain);
        let cut = Cut { parts, copied: making.grain.is_some() };
        Ok(OutputFile { name, size, format, literals, tensors, trailer, cut })
    }

    /// The literal bytes, one after another. They are stored once, before any part is made.
    pub fn header(&self) -> Vec<u8> {
        self.format.literals(&self.tensors, self.header_length())
    }

    /// How many literal bytes there are.
    pub fn header_length(&self) -> u64 {
        self.literals.iter().map(|span| span.length).sum()
    }

    /// For each part the range of an input that the store is asked to copy; `None` for one that is made.
    pub fn copies(&self) -> Vec<Option<(ObjectId, Range<u64>)>> {
        let runs = if self.cut.copied { runs(&self.tensors) } else { Vec::new() };
        let copy = |part| holding(&runs, &part).map(|run| (run.object, run.source(&part)));
        self.cut.parts.iter().map(copy).collect()
    }

    /// Its tensors, in the order of their data.
    pub fn tensors(&self) -> &[Placed] {
        &self.tensors
    }

    /// Everything that it consists of, in order and without gaps.
    pub fn segments(&self) -> Vec<Segment<'_>> {
        let literals = self.literals.iter().map(|span| Segment::Literal(*span));
        let mut known: Vec<Segment<'_>> = literals.chain(self.tensors.iter().map(Segment::Tensor)).collect();
        known.sort_by_key(|segment| segment.span().offset);
        let end = self.size.saturating_sub(self.trailer);
        let mut at = 0;
        let mut all = Vec::with_capacity(known.len() + 1);
        let pad = |from: u64, to: u64| Segment::Padding(Span { offset: from, length: to - from });
        for segment in known {
            let span = segment.span();
            if span.offset > at {
                all.push(pad(at, span.offset));
            }
            at = span.end();
            all.push(segment);
        }
        if end > at {
            all.push(pad(at, end));
        }
        if self.trailer > 0 {
            all.push(Segment::Trailer(Span { offset: end, length: self.trailer }));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::inventory::Source;
    use crate::recipe::Recipe;
    use crate::tensor::Dtype;

    fn tensor(name: &str, length: u64) -> Placed {
        let (object, dtype, shape) = (ObjectId(0), Dtype::U8, vec![length]);
        let recipe = Recipe::Copy(Source { name: name.into(), object, offset: 0, dtype, shape: shape.clone() });
        Placed { name: name.into(), dtype, shape, offset: 0, length, recipe, portion: None }
    }

    fn file() -> OutputFile {
        let format = Format::Safetensors { metadata: BTreeMap::new() };
        let making = Making { after: None, part_size: 1024, grain: None };
        OutputFile::new("f".into(), format, vec![tensor("a", 3), tensor("b", 5)], making).unwrap()
    }

    #[test]
    fn a_safetensors_file_is_a_header_and_its_tensors() {
        let file = file();
        let header = file.header().len() as u64;
        let spans: Vec<_> = file.segments().iter().map(|s| (s.span().offset, s.span().length)).collect();
        assert_eq!(spans, [(0, header), (header, 3), (header + 3, 5)]);
        assert_eq!((file.header_length(), file.size), (header, header + 8));
        assert!(matches!(file.segments()[0], Segment::Literal(_)));
    }

    #[test]
    fn what_is_between_two_segments_is_padding_and_a_trailer_comes_last() {
        let mut file = file();
        file.tensors[1].offset += 8;
        file.trailer = 4;
        file.size += 8 + 4 + 2;
        let segments = file.segments();
        let kinds: Vec<_> = segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(_) => 'l',
                Segment::Tensor(_) => 't',
                Segment::Padding(_) => 'p',
                Segment::Trailer(_) => 'e',
            })
            .collect();
        assert_eq!(kinds, ['l', 't', 'p', 't', 'p', 'e']);
        assert!(segments.windows(2).all(|w| w[0].span().end() == w[1].span().offset), "without gaps");
        assert_eq!(segments.last().map(|s| s.span().end()), Some(file.size));
    }
}
