//! A stored parameter whose values become codes and scales again.

use std::ops::Range;

use super::claim::{Encode, Floats, Rule, Units, Values, Whole};
use super::stored::Start;
use crate::inventory::Source;

/// The tensors that are made: codes and scales.
pub const MADE: usize = 2;

/// Bytes of fp32 that whole units are taken together for, about.
const TILE: u64 = 1 << 20;

/// Encodes the values of a parameter as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Recoder<'a> {
    start: &'a Start,
    encode: &'static dyn Encode,
    rule: Rule,
}

/// The values of rows that are encoded.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The rows: whole units.
    pub rows: &'a Range<u64>,
    /// As they are stored, row-major.
    pub before: &'a [f32],
    /// As they are to be; finite.
    pub after: &'a [f32],
    /// The bytes of [`Start::ranges`].
    pub stored: &'a [&'a [u8]],
    /// What is known of all rows, where one scale serves them.
    pub whole: Option<Whole>,
}

impl std::fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rows {:?}", self.rows)
    }
}

impl<'a> Recoder<'a> {
    /// What encodes a parameter by a rule.
    ///
    /// # Errors
    /// If nothing does. Parameter and rule may come from another process.
    pub fn of(start: &'a Start, rule: Rule) -> Result<Recoder<'a>, String> {
        let encode = start.encode().map_err(|why| format!("{} is encoded, and {why}", start.name()))?;
        match encode.knows(rule) && start.tensors().len() >= MADE {
            true => Ok(Recoder { start, encode, rule }),
            false => Err(format!("{} is encoded by rule {}, which is not known", start.name(), rule.0)),
        }
    }

    /// Whether one scale serves all values, so that [`Rows::whole`] is needed.
    pub fn has_one_scale(&self) -> bool {
        self.encode.has_one_scale(self.start.form())
    }

    /// Rows of a unit: such a run, from row 0 on, is encoded by itself. Only the last one is shorter.
    pub fn unit(&self) -> u64 {
        self.encode.unit(self.start.form()).clamp(1, self.start.matrix().0.max(1))
    }

    /// Rows of whole units that take about this many bytes in fp32; of one unit at least.
    pub fn rows_of(&self, bytes: u64) -> u64 {
        let unit = self.unit();
        (bytes / 4 / self.start.matrix().1.max(1) / unit).max(1).saturating_mul(unit)
    }

    /// Rows that one thread encodes at a time.
    pub fn rows_of_a_tile(&self) -> u64 {
        self.rows_of(TILE)
    }

    /// The rows of whole units of which these bytes of one of the tensors are made.
    pub fn rows_for(&self, tensor: usize, bytes: &Range<u64>) -> Range<u64> {
        let (height, _) = self.start.matrix();
        let unit = self.unit();
        let each = self.start.stretch(tensor, 0..unit);
        let each = each.end - each.start;
        // One scale for all is made of any rows.
        if each == 0 || self.start.tensors().get(tensor).is_none_or(|tensor| tensor.bytes() <= each) {
            return 0..unit;
        }
        bytes.start / each * unit..bytes.end.div_ceil(each).saturating_mul(unit).min(height)
    }

    /// The bytes of one of the tensors that rows of whole units make.
    pub fn bytes_of(&self, tensor: usize, rows: &Range<u64>) -> Range<u64> {
        self.start.stretch(tensor, rows.clone())
    }

    /// The codes and the scales of rows of whole units.
    pub fn encode(&self, rows: &Rows<'_>, floats: Floats<'_>) -> [Vec<u8>; MADE] {
        let [codes, scales, beside @ ..] = rows.stored else { return [Vec::new(), Vec::new()] };
        let (mut codes, mut scales) = (codes.to_vec(), scales.to_vec());
        let Rows { before, after, whole, .. } = *rows;
        let values = Values { before, after, beside, whole, floats };
        let units = Units { rows: rows.rows.clone(), values, codes: &mut codes, scales: &mut scales };
        self.encode.encode(self.start.form(), self.rule, units);
        [codes, scales]
    }

    /// What rows of whole units are once they are encoded.
    pub fn encoded(&self, rows: &Rows<'_>, floats: Floats<'_>) -> Vec<f32> {
        let [codes, scales] = self.encode(rows, floats);
        let new = [codes.as_slice(), scales.as_slice()].into_iter().chain(rows.stored.iter().skip(MADE).copied());
        let mut values = vec![0.0; rows.after.len()];
        self.start.decode(rows.rows.clone(), &new.collect::<Vec<_>>(), floats, &mut values);
        values
    }

    /// The values of rows of which these are the bytes, and how far each may be from what it was made of.
    pub fn judged(&self, rows: &Range<u64>, stored: &[&[u8]], floats: Floats<'_>) -> (Vec<f32>, Vec<f32>) {
        let count = ((rows.end - rows.start) * self.start.matrix().1) as usize;
        let (mut values, mut doubt) = (vec![0.0; count], vec![0.0; count]);
        self.start.decode(rows.clone(), stored, floats, &mut values);
        let [codes, rest @ ..] = stored else { return (values, doubt) };
        let ones = vec![self.encode.one(self.start.form()); codes.len()];
        let all: Vec<&[u8]> = std::iter::once(ones.as_slice()).chain(rest.iter().copied()).collect();
        self.start.decode(rows.clone(), &all, floats, &mut doubt);
        for (scale, value) in doubt.iter_mut().zip(&values) {
            *scale *= self.encode.half_step(value / *scale);
        }
        (values, doubt)
    }

    /// The tensor that is made; `None` if it is neither codes nor scales.
    pub fn made(&self, tensor: usize) -> Option<&'a Source> {
        self.start.tensors().get(tensor).filter(|_| tensor < MADE)
    }
}
