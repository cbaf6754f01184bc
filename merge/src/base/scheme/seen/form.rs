//! What a layer of bitsandbytes keeps of a weight: the type of its codes, and how many values share a scale.

use super::{codes, double};
use crate::inventory::Source;
use crate::statistic::id::StatisticId;
use crate::tensor::float::Float;

/// What values become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// NF4 over the largest value of a group.
    Nf4,
    /// FP4 likewise.
    Fp4,
    /// A whole number from -127 to 127 over that value; LLM.int8.
    Int8,
}

/// How a weight is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) code: Code,
    /// Values that share a scale. They follow each other, row after row.
    pub(super) group: u64,
    /// The dtype in which the weight was loaded, and to which it is dequantised.
    pub(super) from: Float,
    /// Whether the layer has the transpose of what is stored (`Conv1D`).
    pub(super) transposed: bool,
    /// The first of the rows that are a parameter of their own.
    pub(super) first: u64,
    /// How many they are.
    pub(super) count: u64,
    /// The statistic of all scales, if these are quantised themselves.
    pub(super) double: Option<StatisticId>,
}

const CODES: [Code; 3] = [Code::Nf4, Code::Fp4, Code::Int8];
const FLOATS: [Float; 3] = [Float::F32, Float::F16, Float::BF16];
/// What `quantize_4bit` takes as the size of a block.
pub const BLOCKS: [u64; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

impl Form {
    /// As a recipe has it.
    pub(super) fn settings(self) -> Vec<u64> {
        let place = |found: Option<usize>| found.unwrap_or_default() as u64;
        let code = place(CODES.iter().position(|code| *code == self.code));
        let from = place(FLOATS.iter().position(|float| *float == self.from));
        let one = [code, self.group, from, u64::from(self.transposed), self.first, self.count];
        one.into_iter().chain(self.double.map(|id| u64::from(id.0))).collect()
    }

    /// Values that become others together: a group, or all groups whose scales are quantised together.
    pub(super) fn run(self) -> u64 {
        self.group * if self.double.is_some() { double::RUN as u64 } else { 1 }
    }

    /// Reads settings, and holds them against the tensor.
    ///
    /// # Errors
    /// What does not fit.
    pub(super) fn of(tensor: &Source, settings: &[u64]) -> Result<Form, String> {
        let wrong =
            |what: &str| format!("{} of shape {:?} is seen with {what}: {settings:?}", tensor.name, tensor.shape);
        let ([code, group, from, transposed @ (0 | 1), first, count, double @ ..], [rows, cols]) =
            (settings, &*tensor.shape)
        else {
            return Err(wrong("settings of another form"));
        };
        let double = match double {
            [] => None,
            [id] => Some(StatisticId(u32::try_from(*id).map_err(|_| wrong("a statistic that there is not"))?)),
            _ => return Err(wrong("settings of another form")),
        };
        let known = CODES.get(*code as usize).zip(FLOATS.get(*from as usize));
        let (&code, &from) = known.ok_or_else(|| wrong("a code or dtype that is not known"))?;
        let transposed = *transposed == 1;
        let inputs = if transposed { *rows } else { *cols };
        let groups = if code == Code::Int8 { *group == inputs } else { BLOCKS.contains(group) };
        if !groups {
            return Err(wrong("groups of another size"));
        }
        if code == Code::Int8 && double.is_some() {
            return Err(wrong("scales of rows that are quantised themselves"));
        }
        if first.checked_add(*count).is_none_or(|end| end > *rows) {
            return Err(wrong("rows that it does not have"));
        }
        Ok(Form { code, group: *group, from, transposed, first: *first, count: *count, double })
    }

    /// What a run of groups becomes: quantised and dequantised. A group with a value that is not finite has none. `mean` is that of all
    /// scales of the weight, and counts if they are quantised themselves.
    pub(super) fn see(self, values: &mut [f32], mean: f32) {
        values.iter_mut().for_each(|v| *v = self.from.nearest(*v));
        let groups = values.chunks_mut(self.group as usize);
        if self.code == Code::Int8 {
            return groups.for_each(int8);
        }
        let mut scales: Vec<f32> = groups.map(|group| largest(group)).collect();
        let first = scales.clone();
        if self.double.is_some() {
            double::again(&mut scales, mean);
        }
        for ((group, first), scale) in values.chunks_mut(self.group as usize).zip(first).zip(scales) {
            match self.code {
                _ if first.is_nan() => group.fill(f32::NAN),
                Code::Fp4 => self.by_codes(group, first, scale, codes::fp4),
                _ => self.by_codes(group, first, scale, codes::nf4),
            }
        }
    }

    /// [bitsandbytes 0.50, `backends/default/ops.py`, `quantize_4bit` and `_dequantize_4bit_compute`]: a multiplication by the
    /// reciprocal, a table, a multiplication, all in fp32, and one rounding.
    fn by_codes(self, values: &mut [f32], largest: f32, scale: f32, code: impl Fn(f32) -> f32) {
        let reciprocal = 1.0 / largest.max(SMALLEST);
        values.iter_mut().for_each(|v| *v = self.from.nearest(code(*v * reciprocal) * scale));
    }
}

/// The largest magnitude; not a number if a value is not finite.
fn largest(values: &[f32]) -> f32 {
    if values.iter().all(|v| v.is_finite()) {
        values.iter().fold(0.0, |largest, v| largest.max(v.abs()))
    } else {
        f32::NAN
    }
}

/// What a block of zeros is divided by.
const SMALLEST: f32 = 1e-38;

/// [bitsandbytes 0.50, `backends/default/ops.py`, `int8_vectorwise_quant`; `_ops.py`, `int8_vectorwise_dequant`]: rounded to nearest even,
/// and times the fp32 that is closest to 1/127. The result is fp32, as in PEFT's merge.
fn int8(values: &mut [f32]) {
    values.iter_mut().for_each(|v| *v = Float::F16.nearest(*v));
    let largest = largest(values);
    if largest == 0.0 {
        return;
    }
    if largest.is_nan() {
        return values.fill(f32::NAN);
    }
    // torch divides a number by a tensor as the reciprocal times the number, and so does the card.
    let scale = 1.0 / largest * 127.0;
    values.iter_mut().for_each(|v| *v = (*v * scale).round_ties_even() * largest * 7.874_016e-3);
}
