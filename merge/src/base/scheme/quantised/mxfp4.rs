//! MXFP4 as gpt-oss has it: groups of 32 values with a common power of two.
//!
//! `gate_up_proj_blocks` is U8 [experts, out, in / 32, 16], two values a byte with the first in the lower half, and
//! `gate_up_proj_scales` U8 [experts, out, in / 32]. The model's parameter is `gate_up_proj` [experts, in, out]: value = E2M1 x
//! 2^(scale - 127). Open Compute Project, Microscaling Formats 1.0; the order is that of transformers' `convert_moe_packed_tensors`.

use std::ops::Range;

use super::companions::{beside, elements};
use super::values::{E2M1, e8m0};
use crate::base::scheme::claim::{Claim, Floats, Layout, Scheme, StoredForm, Stretch, Tensors, lines_of};
use crate::inventory::Source;
use crate::tensor::Dtype;
use crate::tensor::float::Float;

/// Bytes of a group: 32 values.
const GROUP: u64 = 16;

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
        for (row, out) in rows.zip(out.chunks_exact_mut(outputs)) {
            let (expert, input) = ((row / inputs - first) as usize, (row % inputs) as usize);
            let (group, within, shift) = (input / 32, input % 32 / 2, input % 2 * 4);
            for (output, out) in out.iter_mut().enumerate() {
                let at = (expert * outputs + output) * groups + group;
                let code = codes[at * GROUP as usize + within] >> shift & 15;
                *out = E2M1[usize::from(code)] * e8m0(scales[at]);
            }
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

    fn plain(&self, _: StoredForm<'_>) -> Option<Float> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::ObjectId;

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
