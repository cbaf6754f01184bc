//! Rows of a parameter as they are stored, and their values.

use std::ops::Range;

use bytes::Bytes;
use shardfuse_merge::Dtype;
use shardfuse_merge::recipe::{Span, Start};
use shardfuse_merge::tensor::float::Float;

use crate::device::cpu::Kernels;

/// The stored bytes of a run of rows. Clones share them.
#[derive(Debug, Clone)]
pub struct Raw {
    start: Start,
    rows: Range<u64>,
    /// The ranges of the rows, and what was read of each.
    spans: Vec<(Span, Bytes)>,
}

impl Raw {
    /// What was read of the ranges of rows of a parameter, in their order.
    pub fn new(start: &Start, rows: Range<u64>, read: Vec<Bytes>) -> Raw {
        let spans = start.ranges(rows.clone()).into_iter().zip(read).collect();
        Raw { start: start.clone(), rows, spans }
    }

    /// The rows.
    pub fn rows(&self) -> Range<u64> {
        self.rows.clone()
    }

    /// How many bytes they are.
    pub fn bytes(&self) -> u64 {
        self.spans.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// The bytes and the dtype, if the values themselves lie row by row.
    pub fn plain(&self) -> Option<(Bytes, Dtype)> {
        let ([(_, bytes)], (_, float)) = (self.spans.as_slice(), self.start.as_plain()?) else { return None };
        Some((bytes.clone(), float.dtype()))
    }

    /// The values of some of the rows, row-major.
    ///
    /// # Panics
    /// If a row is not among them.
    pub fn decode(&self, kernels: &Kernels, rows: Range<u64>, out: &mut [f32]) {
        let spans = self.start.ranges(rows.clone());
        let bytes: Vec<&[u8]> = spans.iter().map(|span| self.find(span)).collect();
        let floats = |float: Float, bytes: &[u8], out: &mut [f32]| kernels.decode(float.dtype(), bytes, out);
        self.start.decode(rows, &bytes, &floats, out);
    }

    fn find(&self, span: &Span) -> &[u8] {
        let holds = |(held, _): &&(Span, Bytes)| {
            held.object == span.object && held.bytes.start <= span.bytes.start && span.bytes.end <= held.bytes.end
        };
        let (held, bytes) = self.spans.iter().find(holds).expect("rows among those that were read");
        let first = (span.bytes.start - held.bytes.start) as usize;
        &bytes[first..first + (span.bytes.end - span.bytes.start) as usize]
    }
}
