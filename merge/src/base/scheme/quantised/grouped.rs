//! Integers whose words lie the other way round than the model's rows: a row of words is an input, or several, and has all
//! outputs. GPTQ and AWQ have a scale and a zero point for each group of inputs and each output.
//!
//! Any row of the parameter lies in all rows of words, so that all words are read for it.

use std::ops::Range;

use super::companions::{extents, needed, shown};
use super::lanes::Lane;
use super::values::{code, scale_bytes};
use crate::base::scheme::claim::{Floats, StoredForm, Stretch};
use crate::inventory::Source;
use crate::tensor::Dtype;
use crate::tensor::float::Float;

/// The tensors of a parameter whose shapes were approved.
pub(super) struct Grouped<'a> {
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Groups of inputs.
    pub(super) groups: usize,
    pub(super) codes: (usize, &'a Source),
    zeros: (usize, &'a Source),
    scales: (usize, &'a Source),
}

impl<'a> Grouped<'a> {
    /// The tensors of a parameter of so many inputs in so many groups. Zero points have so many bits.
    pub(super) fn of(form: StoredForm<'a>, inputs: u64, groups: u64, bits: u64) -> Result<Grouped<'a>, String> {
        let (codes, zeros, scales) = (needed(form, ".qweight")?, needed(form, ".qzeros")?, needed(form, ".scales")?);
        let outputs = scales.1.shape.last().copied().unwrap_or(0);
        extents(codes.1, outputs, inputs)?;
        let fits = groups > 0
            && scales.1.shape == [groups, outputs]
            && Float::of(scales.1.dtype).is_some()
            && zeros.1.dtype == Dtype::I32
            && zeros.1.shape == [groups, (outputs * bits).div_ceil(32)];
        if !fits || codes.1.dtype != Dtype::I32 {
            let (codes, zeros, scales) = (shown(codes.1), shown(zeros.1), shown(scales.1));
            let text = format!("{zeros} and {scales} do not fit {codes} of {bits} bits in {groups} groups of inputs");
            return Err(text);
        }
        let (outputs, inputs, groups) = (outputs as usize, inputs as usize, groups as usize);
        Ok(Grouped { outputs, inputs, groups, codes, zeros, scales })
    }

    /// All bytes, and those of the order of inputs.
    pub(super) fn ranges(&self, order: Option<(usize, &'a Source)>) -> Vec<Stretch> {
        let all = [self.codes, self.zeros, self.scales].into_iter().chain(order);
        all.map(|tensor| Lane::whole(tensor).stretch(&(0..0))).collect()
    }

    /// The zero points and scales of some outputs: those of group g from g x outputs on. `zero` finds a zero point in the words of
    /// a group.
    pub(super) fn scales(
        &self,
        outputs: &Range<usize>,
        [zeros, scales]: [&[u8]; 2],
        floats: Floats<'_>,
        zero: impl Fn(&[u8], usize) -> f32,
    ) -> Vec<[f32; 2]> {
        let Some(float) = Float::of(self.scales.1.dtype) else { return Vec::new() };
        let size = scale_bytes(float.dtype()).unwrap_or(1) as usize;
        let mut values = vec![0.0; outputs.len()];
        let mut all = Vec::with_capacity(self.groups * outputs.len());
        for (zeros, scales) in
            zeros.chunks_exact(zeros.len() / self.groups).zip(scales.chunks_exact(self.outputs * size))
        {
            floats(float, &scales[outputs.start * size..outputs.end * size], &mut values);
            all.extend(outputs.clone().zip(&values).map(|(output, scale)| [zero(zeros, output), *scale]));
        }
        all
    }
}

/// The code in a stream of words at this place, as a number.
pub(super) fn nth(words: &[u8], at: usize, bits: u64) -> f32 {
    code(words, at * bits as usize, bits)
}
