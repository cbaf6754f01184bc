//! MXFP4 as compressed-tensors has it, `mxfp4-pack-quantized`: groups of 32 values with a common power of two.
//!
//! `X.weight_packed` is U8 [out, in / 2], two values a byte with the first in the lower half, and `X.weight_scale` U8 [out, in / 32]:
//! value = E2M1 x 2^(scale - 127), compressed-tensors' `MXFP4PackedCompressor.decompress`.
//!
//! Codes and scales come from values by compressed-tensors 0.20: the scale is [`to_mx_scale`] of the largest magnitude, less 2
//! (`generate_mx_scales`), and a code is the nearest one, ties to even (`cast_to_fp4`). Values above 6 scales become 6.

use std::ops::Range;

use super::companions::{beside, extents, named, needed, shown, widened};
use super::lanes::{Lane, portion};
use super::values::{e8m0, largest, to_mx_scale};
use super::{fp4, told};
use crate::base::quantisation::Quantisation;
use crate::base::scheme::claim::{
    Claim, Encode, Floats, Layout, Rule, Scheme, StoredForm, Stretch, Tensors, Told, Units,
};
use crate::inventory::Source;
use crate::tensor::Dtype;

/// Values of a group.
const GROUP: u64 = 32;

/// The scheme, and its layout. There are no settings.
#[derive(Debug)]
pub struct Mxfp4Packed;

impl Scheme for Mxfp4Packed {
    fn name(&self) -> &'static str {
        "mxfp4-pack-quantized"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        let module = codes.name.strip_suffix(".weight_packed").filter(|_| codes.dtype == Dtype::U8)?;
        let also = [".input_scale", ".input_global_scale", ".weight_zero_point"];
        let places = beside(at, module, tensors, &[".weight_scale"], &also)?;
        let powers = matches!(tensors.at(places[1]).dtype, Dtype::U8 | Dtype::F8_E8M0);
        let (name, dims) = (format!("{module}.weight"), widened(&codes.shape, 2));
        let settings = settings(codes, tensors.quantisation);
        powers.then_some(Claim { name, dims, tensors: places, settings })
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        Some(&Mxfp4Packed)
    }

    fn encode(&self) -> Result<&'static dyn Encode, &'static str> {
        Ok(&Mxfp4Packed)
    }
}

fn settings(codes: &Source, said: &Quantisation) -> Told {
    told::method(said, &["compressed-tensors"], codes)?;
    told::format(said, &["mxfp4-pack-quantized"], codes)?;
    Ok(Vec::new())
}

/// A parameter whose form was approved.
struct View<'a> {
    rows: u64,
    cols: u64,
    lanes: [Lane<'a>; 2],
}

impl<'a> View<'a> {
    fn of(form: StoredForm<'a>) -> Result<View<'a>, String> {
        let (codes, scale) = (needed(form, ".weight_packed")?, needed(form, ".weight_scale")?);
        if let Some((_, zeros)) = named(form, ".weight_zero_point") {
            return Err(format!("{} changes the values of {}, which is not known", zeros.name, codes.1.name));
        }
        let [rows, half] = *codes.1.shape.as_slice() else { return Err(format!("{} is no matrix", shown(codes.1))) };
        let cols = half.saturating_mul(2);
        extents(codes.1, rows, cols)?;
        let fits = codes.1.dtype == Dtype::U8
            && cols.is_multiple_of(GROUP)
            && matches!(scale.1.dtype, Dtype::U8 | Dtype::F8_E8M0)
            && scale.1.shape == [rows, cols / GROUP];
        let lanes = [Lane::rows(codes, rows), Lane::rows(scale, rows)];
        let told = || format!("{} does not fit {} in groups of {GROUP}", shown(scale.1), shown(codes.1));
        fits.then_some(View { rows, cols, lanes }).ok_or_else(told)
    }
}

impl Layout for Mxfp4Packed {
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String> {
        View::of(form).map(|view| vec![view.rows, view.cols])
    }

    fn ranges(&self, form: StoredForm<'_>, rows: Range<u64>) -> Vec<Stretch> {
        View::of(form).map(|view| view.lanes.iter().map(|lane| lane.stretch(&rows)).collect()).unwrap_or_default()
    }

    fn decode(&self, _: StoredForm<'_>, _: Range<u64>, bytes: &[&[u8]], _: Floats<'_>, out: &mut [f32]) {
        let [codes, scales] = bytes else { return };
        fp4::decode(codes, GROUP as usize, scales.iter().map(|scale| e8m0(*scale)), out);
    }

    fn portion(&self, form: StoredForm<'_>, rows: Range<u64>) -> Option<(Vec<Source>, Vec<u64>)> {
        let view = View::of(form).ok()?;
        Some((portion(&view.lanes, &rows, view.rows)?, Vec::new()))
    }
}

impl Encode for Mxfp4Packed {
    fn rule(&self, _: StoredForm<'_>, _: &Quantisation) -> Result<Rule, String> {
        Ok(Rule::default())
    }

    fn knows(&self, rule: Rule) -> bool {
        rule == Rule::default()
    }

    fn unit(&self, _: StoredForm<'_>) -> u64 {
        1
    }

    fn encode(&self, _: StoredForm<'_>, _: Rule, Units { values, codes, scales, .. }: Units<'_>) {
        let group = GROUP as usize;
        let values = values.before.chunks_exact(group).zip(values.after.chunks_exact(group));
        for ((before, after), (codes, scale)) in values.zip(codes.chunks_exact_mut(group / 2).zip(scales)) {
            if before == after {
                continue;
            }
            *scale = to_mx_scale(largest(after.iter().copied()), 2);
            let factor = e8m0(*scale);
            for (byte, [low, high]) in codes.iter_mut().zip(after.as_chunks().0) {
                *byte = fp4::code(*low, factor) | fp4::code(*high, factor) << 4;
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
    use serde_json::json;

    use super::super::tests::{decoded, said, tensor};
    use super::*;

    #[test]
    fn groups_of_32_have_a_power_of_two() {
        let tensors = [tensor("m.weight_packed", Dtype::U8, &[2, 16]), tensor("m.weight_scale", Dtype::U8, &[2, 1])];
        let form = StoredForm { tensors: &tensors, settings: &[] };
        assert_eq!(Mxfp4Packed.dims(form).unwrap(), [2, 32]);
        let bytes: [&[u8]; 2] = [&[0xE1; 32], &[127, 129]];
        let all = decoded(&Mxfp4Packed, form, &bytes, 0..2);
        assert_eq!((all[0], all[1], all[32], all[33]), (0.5, -4.0, 2.0, -16.0));
        assert_eq!(decoded(&Mxfp4Packed, form, &bytes, 1..2), all[32..]);
        assert_eq!(Mxfp4Packed.portion(form, 1..2).unwrap().0[1].offset, 1);
    }

    #[test]
    fn config_and_tensors_have_to_agree() {
        let tensors = |groups| {
            vec![tensor("m.weight_packed", Dtype::U8, &[2, 16]), tensor("m.weight_scale", Dtype::U8, &[2, groups])]
        };
        let of = |format: &str| json!({"quant_method": "compressed-tensors", "format": format});
        let told = |groups, format: &str| said(tensors(groups), of(format), &[]).stored.start();
        assert_eq!(told(1, "mxfp4-pack-quantized").unwrap().dims(), [2, 32]);
        let refused = told(2, "mxfp4-pack-quantized").unwrap_err();
        assert!(refused.contains("m.weight_scale (U8 [2, 2]) does not fit m.weight_packed (U8 [2, 16])"), "{refused}");
        let refused = told(1, "nvfp4-pack-quantized").unwrap_err();
        assert!(refused.contains("names the format nvfp4-pack-quantized, and m.weight_packed is mxfp4"), "{refused}");
    }
}
