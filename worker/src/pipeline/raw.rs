//! Rows of a parameter as they are stored, and their values.

use std::ops::Range;
use std::sync::Arc;

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
    /// The value of the statistic that decoding needs.
    statistic: Option<Bytes>,
    /// The values of all rows, if they were decoded together.
    values: Option<Arc<Vec<f32>>>,
}

impl Raw {
    /// What was read of the ranges of rows of a parameter, in their order.
    pub fn new(start: &Start, rows: Range<u64>, read: Vec<Bytes>) -> Raw {
        let spans = start.ranges(rows.clone()).into_iter().zip(read).collect();
        Raw { start: start.clone(), rows, spans, statistic: None, values: None }
    }

    /// The same with the value of [`Start::statistic`].
    pub fn with(self, statistic: Option<Bytes>) -> Raw {
        Raw { statistic, ..self }
    }

    /// The same with the values of all rows, from which those of some rows are taken.
    pub fn decoded(self, kernels: &Kernels) -> Raw {
        let mut values = vec![0.0; ((self.rows.end - self.rows.start) * self.start.matrix().1) as usize];
        self.decode(kernels, self.rows(), &mut values);
        Raw { values: Some(Arc::new(values)), ..self }
    }

    /// What they are rows of.
    pub fn start(&self) -> &Start {
        &self.start
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
        if let Some(values) = &self.values {
            let first = ((rows.start - self.rows.start) * self.start.matrix().1) as usize;
            return out.copy_from_slice(&values[first..first + out.len()]);
        }
        let mut bytes = self.stored(rows.clone());
        bytes.extend(self.statistic.as_deref());
        let floats = |float: Float, bytes: &[u8], out: &mut [f32]| kernels.decode(float.dtype(), bytes, out);
        self.start.decode(rows, &bytes, &floats, out);
    }

    /// The stored bytes of some of the rows, in the order of their ranges.
    ///
    /// # Panics
    /// If a row is not among them.
    pub fn stored(&self, rows: Range<u64>) -> Vec<&[u8]> {
        self.start.ranges(rows).iter().map(|span| self.find(span)).collect()
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
