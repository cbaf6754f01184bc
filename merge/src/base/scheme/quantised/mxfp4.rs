//! MXFP4 as gpt-oss has it: groups of 32 values with a common power of two.
//!
//! `gate_up_proj_blocks` is U8 [experts, out, in / 32, 16], two values a byte with the first in the lower half, and
//! `gate_up_proj_scales` U8 [experts, out, in / 32]. The model's parameter is `gate_up_proj` [experts, in, out]: value = E2M1 x
//! 2^(scale - 127). Open Compute Project, Microscaling Formats 1.0; the order is that of transformers' `convert_moe_packed_tensors`.
//!
//! Codes and scales come from values as `quantize_to_mxfp4` of transformers 5.23 makes them, with `downcast_to_mxfp_torch` of
//! triton_kernels: the scale is the power of two at or above a sixth of the largest magnitude, so that nothing saturates, and a
//! code is the nearest one, ties to even. (Microscaling Formats 1.0 proposes the power of two at or below the largest magnitude,
//! less 2 in the exponent.)

use std::ops::Range;

use super::companions::{beside, elements};
use super::fp4;
use super::values::{E2M1, e8m0, largest, power_above, to_e2m1, to_e8m0};
use crate::base::quantisation::Quantisation;
use crate::base::scheme::claim::{
    Claim, Encode, Floats, Layout, Rule, Scheme, StoredForm, Stretch, Tensors, Units, lines_of,
};
use crate::inventory::Source;
use crate::tensor::Dtype;

/// Bytes of a group: 32 values.
const GROUP: u64 = 16;

/// Outputs whose values are written together: a cache line.
const RUN: usize = 16;

/// The scheme, and its layout. The setting 1 makes one matrix of all experts, [experts x in, out].
#[derive(Debug)]
pub struct Mxfp4;

const FLAT: &[u64] = &[1];

impl Scheme for Mxfp4 {
    fn name(&self) -> &'static str {
        "mxfp4"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        let stem = codes.name.strip_suffix("_blocks").filter(|_| codes.dtype == Dtype::U8)?;
        let places = beside(at, stem, tensors, &["_scales"], &[])?;
        let dims = Extents::of(&codes.shape)?.dims();
        Some(Claim::new(stem.to_owned(), dims, places))
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        Some(&Mxfp4)
    }

    fn encode(&self) -> Result<&'static dyn Encode, &'static str> {
        Ok(&Mxfp4)
    }
}

/// The extents of the codes.
#[derive(Clone, Copy)]
struct Extents {
    experts: u64,
    outputs: u64,
    groups: u64,
}

impl Extents {
    fn of(shape: &[u64]) -> Option<Extents> {
        let [experts, outputs, groups, GROUP] = *shape else { return None };
        (elements(&[experts, outputs, groups, 2 * GROUP])? > 0).then_some(Extents { experts, outputs, groups })
    }

    fn inputs(self) -> u64 {
        self.groups * 2 * GROUP
    }

    fn dims(self) -> Vec<u64> {
        vec![self.experts, self.inputs(), self.outputs]
    }
}

/// Rows of the parameter as inputs of experts.
fn flat(form: StoredForm<'_>, extents: Extents, rows: Range<u64>) -> Range<u64> {
    let each = if form.settings == FLAT { 1 } else { extents.inputs() };
    rows.start * each..rows.end * each
}

impl Layout for Mxfp4 {
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String> {
        let [codes, scales] = form.tensors else {
            return Err(format!("{} tensors are one parameter, expected codes and scales", form.tensors.len()));
        };
        let fits = codes.dtype == Dtype::U8
            && scales.dtype == Dtype::U8
            && codes.shape.split_last().is_some_and(|(_, s)| s == scales.shape);
        let dims = |e: Extents| if form.settings == FLAT { vec![e.experts * e.inputs(), e.outputs] } else { e.dims() };
        Extents::of(&codes.shape).filter(|_| fits).map(dims).ok_or_else(|| {
            format!(
                "{} is {:?} {:?}, {} is {:?} {:?}",
                codes.name, codes.dtype, codes.shape, scales.name, scales.dtype, scales.shape
            )
        })
    }

    /// The values of one input of an expert lie in all rows of that expert's codes.
    fn ranges(&self, form: StoredForm<'_>, rows: Range<u64>) -> Vec<Stretch> {
        let Some(extents) = form.tensors.first().and_then(|codes| Extents::of(&codes.shape)) else { return Vec::new() };
        let rows = flat(form, extents, rows);
        let experts = rows.start / extents.inputs()..rows.end.div_ceil(extents.inputs());
        let scales = extents.outputs * extents.groups;
        let of = |tensor, each: u64| Stretch { tensor, bytes: experts.start * each..experts.end * each };
        vec![of(0, scales * GROUP), of(1, scales)]
    }

    fn decode(&self, form: StoredForm<'_>, rows: Range<u64>, bytes: &[&[u8]], _: Floats<'_>, out: &mut [f32]) {
        let (Some(extents), [codes, scales]) = (Extents::of(&form.tensors[0].shape), bytes) else { return };
        let (inputs, outputs, groups) = (extents.inputs(), extents.outputs as usize, extents.groups as usize);
        let rows = flat(form, extents, rows);
        let first = rows.start / inputs;
        let (end, mut row) = (rows.end, rows.start);
        let mut out = out.chunks_exact_mut(outputs);
        while row < end {
            // The rows of one group, and all outputs in runs: a byte of codes has two inputs, and a line of values has many outputs.
            let (expert, group) = ((row / inputs - first) as usize, (row % inputs / 32) as usize);
            let inside = (row % 32) as usize..(row % 32 + end - row).min(32) as usize;
            let mut lines: Vec<&mut [f32]> = out.by_ref().take(inside.len()).collect();
            for begin in (0..outputs).step_by(RUN) {
                let run = begin..(begin + RUN).min(outputs);
                let mut values = [[0.0; RUN]; 32];
                for (column, output) in run.clone().enumerate() {
                    let at = (expert * outputs + output) * groups + group;
                    let scale = e8m0(scales[at]);
                    let codes = &codes[at * GROUP as usize..][..GROUP as usize];
                    for (code, pair) in codes.iter().zip(values.as_chunks_mut::<2>().0) {
                        pair[0][column] = E2M1[usize::from(code & 15)] * scale;
                        pair[1][column] = E2M1[usize::from(code >> 4)] * scale;
                    }
                }
                for (line, values) in lines.iter_mut().zip(&values[inside.clone()]) {
                    line[run.clone()].copy_from_slice(&values[..run.len()]);
                }
            }
            row += inside.len() as u64;
        }
    }

    /// The rows of whole experts.
    fn portion(&self, form: StoredForm<'_>, rows: Range<u64>) -> Option<(Vec<Source>, Vec<u64>)> {
        let [codes, scales] = form.tensors else { return None };
        let extents = Extents::of(&codes.shape)?;
        let inputs = extents.inputs();
        if !(rows.start.is_multiple_of(inputs) && rows.end.is_multiple_of(inputs)) {
            return None;
        }
        let experts = rows.start / inputs..rows.end / inputs;
        let of = |tensor: &Source| {
            let shape = [&[experts.end - experts.start], &tensor.shape[1..]].concat();
            lines_of(tensor, experts.clone(), extents.experts, shape)
        };
        Some((vec![of(codes)?, of(scales)?], FLAT.to_vec()))
    }
}

impl Encode for Mxfp4 {
    fn rule(&self, _: StoredForm<'_>, said: &Quantisation) -> Result<Rule, String> {
        match said.method.as_deref() {
            Some("mxfp4") => Ok(Rule::default()),
            Some(method) => Err(format!("it is not known how {method} makes its scales")),
            None => Err("config.json has no quantization_config that says how its scales are made".to_owned()),
        }
    }

    fn knows(&self, rule: Rule) -> bool {
        rule == Rule::default()
    }

    /// An expert: any row of codes holds all inputs of an output.
    fn unit(&self, form: StoredForm<'_>) -> u64 {
        let extents = form.tensors.first().and_then(|codes| Extents::of(&codes.shape));
        extents.map_or(1, |extents| if form.settings == FLAT { extents.inputs() } else { 1 })
    }

    fn encode(&self, form: StoredForm<'_>, _: Rule, Units { values, codes, scales, .. }: Units<'_>) {
        let Some(extents) = form.tensors.first().and_then(|codes| Extents::of(&codes.shape)) else { return };
        let (outputs, groups) = (extents.outputs as usize, extents.groups as usize);
        let expert = outputs * extents.inputs() as usize;
        let experts = values.before.chunks_exact(expert).zip(values.after.chunks_exact(expert)).enumerate();
        for (number, (before, after)) in experts {
            for group in 0..groups {
                let of = |values: &[f32], output: usize| -> [f32; 32] {
                    std::array::from_fn(|input| values[(group * 32 + input) * outputs + output])
                };
                for output in 0..outputs {
                    let values = of(after, output);
                    if of(before, output) == values {
                        continue;
                    }
                    let at = (number * outputs + output) * groups + group;
                    let sixth = largest(values) / 6.0;
                    scales[at] = if sixth > 0.0 { to_e8m0(power_above(sixth)) } else { 0 };
                    let factor = e8m0(scales[at]);
                    let code = |value: f32| to_e2m1(value / factor) | u8::from(value.is_sign_negative()) << 3;
                    let bytes = &mut codes[at * GROUP as usize..][..GROUP as usize];
                    for (byte, [low, high]) in bytes.iter_mut().zip(values.as_chunks().0) {
                        *byte = code(*low) | code(*high) << 4;
                    }
                }
            }
        }
    }

    fn one(&self, _: StoredForm<'_>) -> u8 {
        0x22
    }

    fn half_step(&self, scales: f32) -> f32 {
        fp4::half_step(scales)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::ObjectId;
    use crate::tensor::float::Float;

    fn tensor(name: &str, shape: &[u64]) -> Source {
        Source { name: name.into(), object: ObjectId(0), offset: 0, dtype: Dtype::U8, shape: shape.into() }
    }

    #[test]
    fn a_row_is_one_input_over_all_outputs_of_its_expert() {
        let tensors = [tensor("b", &[2, 3, 1, 16]), tensor("s", &[2, 3, 1])];
        let form = StoredForm { tensors: &tensors, settings: FLAT };
        let stacked = StoredForm { settings: &[], ..form };
        assert_eq!((Mxfp4.dims(form).unwrap(), Mxfp4.dims(stacked).unwrap()), (vec![64, 3], vec![2, 32, 3]));
        assert_eq!(Mxfp4.ranges(stacked, 1..2), Mxfp4.ranges(form, 32..64));
        let bytes = |tensor, bytes| Stretch { tensor, bytes };
        assert_eq!(Mxfp4.ranges(form, 3..5), [bytes(0, 0..48), bytes(1, 0..3)], "of the first expert");
        assert_eq!(Mxfp4.ranges(form, 31..33), [bytes(0, 0..96), bytes(1, 0..6)], "of both");
        // Byte i of output o of expert e: 16 x o + i in the lower half, its complement in the upper.
        let codes: Vec<u8> = (0..96)
            .map(|i| {
                let low = (i % 16) as u8;
                low | (15 - low) << 4
            })
            .collect();
        let mut out = [0.0; 6];
        let floats = |_: Float, _: &[u8], _: &mut [f32]| unreachable!("there are no floats");
        Mxfp4.decode(form, 31..33, &[&codes, &[127, 128, 126, 129, 127, 127]], &floats, &mut out);
        // Input 31 of expert 0 is the upper half of byte 15: code 0. Input 0 of expert 1 is the lower half of byte 0: code 0.
        assert_eq!(out, [0.0; 6]);
        let mut out = [0.0; 6];
        Mxfp4.decode(form, 2..4, &[&codes[..48], &[127, 128, 126]], &floats, &mut out);
        // Byte 1 is code 1 (0.5) and code 14 (-4).
        assert_eq!(out, [0.5, 1.0, 0.25, -4.0, -8.0, -2.0]);
    }

    #[test]
    fn any_rows_are_those_of_the_definition() {
        // 2 experts of 20 outputs, which is no whole number of runs, and 64 inputs in two groups.
        let (outputs, groups) = (20, 2);
        let tensors = [tensor("b", &[2, outputs, groups, 16]), tensor("s", &[2, outputs, groups])];
        let form = StoredForm { tensors: &tensors, settings: FLAT };
        let all = (2 * outputs * groups) as usize;
        let codes: Vec<u8> = (0..all * 16).map(|i| (i * 37 + i / 16) as u8).collect();
        let scales: Vec<u8> = (0..all).map(|i| (120 + i % 11) as u8).collect();
        let value = |row: usize, output: usize| {
            let at = (row / 64 * outputs as usize + output) * groups as usize + row % 64 / 32;
            let byte = codes[at * 16 + row % 32 / 2];
            E2M1[usize::from(if row.is_multiple_of(2) { byte & 15 } else { byte >> 4 })] * e8m0(scales[at])
        };
        let floats = |_: Float, _: &[u8], _: &mut [f32]| unreachable!("there are no floats");
        for rows in [0..128u64, 0..1, 5..33, 31..65, 63..64, 70..128] {
            let stretches = Mxfp4.ranges(form, rows.clone());
            let part = |at: usize, of: &[u8]| {
                of[stretches[at].bytes.start as usize..stretches[at].bytes.end as usize].to_vec()
            };
            let mut out = vec![0.0; ((rows.end - rows.start) * outputs) as usize];
            Mxfp4.decode(form, rows.clone(), &[&part(0, &codes), &part(1, &scales)], &floats, &mut out);
            let expected: Vec<f32> = rows
                .clone()
                .flat_map(|row| (0..outputs as usize).map(move |output| (row as usize, output)))
                .map(|(row, output)| value(row, output))
                .collect();
            assert_eq!(out, expected, "{rows:?}");
        }
    }

    #[test]
    fn an_expert_is_a_parameter_of_its_own() {
        let tensors = [tensor("b", &[2, 3, 1, 16]), tensor("s", &[2, 3, 1])];
        let form = StoredForm { tensors: &tensors, settings: &[] };
        let (own, _) = Mxfp4.portion(form, 32..64).unwrap();
        let expected = [(48, vec![1, 3, 1, 16]), (3, vec![1, 3, 1])];
        assert_eq!(own.iter().map(|t| (t.offset, t.shape.clone())).collect::<Vec<_>>(), expected);
        assert!(Mxfp4.portion(form, 16..48).is_none());
    }

    #[test]
    fn extents_beyond_64_bits_are_refused() {
        let tensors = [tensor("b", &[1 << 40, 1 << 40, 1 << 40, 16]), tensor("s", &[1 << 40, 1 << 40, 1 << 40])];
        assert!(Mxfp4.dims(StoredForm { tensors: &tensors, settings: FLAT }).is_err());
    }

    #[test]
    fn scales_of_another_shape_are_named() {
        let tensors = [tensor("b", &[2, 3, 1, 16]), tensor("s", &[2, 3, 2])];
        let refused = Mxfp4.dims(StoredForm { tensors: &tensors, settings: &[] }).unwrap_err();
        assert!(refused.contains("b is U8 [2, 3, 1, 16], s is U8 [2, 3, 2]"), "{refused}");
    }
}
