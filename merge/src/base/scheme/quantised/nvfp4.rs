//! NVFP4: groups of 16 values with an FP8 scale, and one scale for the tensor.
//!
//! ModelOpt writes `X.weight` U8 [out, in / 2], `X.weight_scale` F8_E4M3 [out, in / 16] and `X.weight_scale_2` F32: value = E2M1 x
//! (scale x scale_2), `NVFP4QTensor.dequantize`. compressed-tensors writes `X.weight_packed`, `X.weight_scale` and
//! `X.weight_global_scale`, which divides: value = E2M1 x (scale / global_scale), `dequantize` in fp32.

use std::ops::Range;

use super::companions::{beside, extents, named, needed, shown, widened};
use super::lanes::{Lane, portion};
use super::values::e4m3;
use super::{fp4, told};
use crate::base::quantisation::Quantisation;
use crate::base::scheme::claim::{Claim, Encode, Floats, Layout, Scheme, StoredForm, Stretch, Tensors, Told};
use crate::inventory::Source;
use crate::tensor::Dtype;

/// Values of a group.
const GROUP: u64 = 16;
/// The codes, and the scale of the tensor.
const FORMS: [(&str, &str); 2] = [(".weight", ".weight_scale_2"), (".weight_packed", ".weight_global_scale")];

/// The scheme, and its layout. There are no settings: the names tell the form.
#[derive(Debug)]
pub struct Nvfp4;

impl Scheme for Nvfp4 {
    fn name(&self) -> &'static str {
        "nvfp4"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        let form = FORMS.iter().find(|form| codes.name.ends_with(form.0) && codes.dtype == Dtype::U8)?;
        let module = codes.name.strip_suffix(form.0)?;
        let also = [".input_scale", ".input_global_scale", ".pre_quant_scale", ".weight_zero_point"];
        let places = beside(at, module, tensors, &[".weight_scale", form.1], &also)?;
        let scaled = tensors.at(places[1]).dtype == Dtype::F8_E4M3;
        let (name, dims) = (format!("{module}.weight"), widened(&codes.shape, 2));
        let settings = settings(form.0 == ".weight", codes, tensors.quantisation);
        scaled.then_some(Claim { name, dims, tensors: places, settings })
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        Some(&Nvfp4)
    }

    fn encode(&self) -> Result<&'static dyn Encode, &'static str> {
        Err("its scales have a scale themselves")
    }
}

fn settings(of_modelopt: bool, codes: &Source, said: &Quantisation) -> Told {
    if of_modelopt {
        // ModelOpt's own exports may say so in hf_quant_config.json alone.
        if said.method.is_some() {
            told::method(said, &["modelopt", "modelopt_fp4"], codes)?;
        }
    } else {
        told::method(said, &["compressed-tensors"], codes)?;
        told::format(said, &["nvfp4-pack-quantized"], codes)?;
    }
    Ok(Vec::new())
}

/// A parameter whose form was approved.
struct View<'a> {
    rows: u64,
    cols: u64,
    codes: (usize, &'a Source),
    scale: (usize, &'a Source),
    common: (usize, &'a Source),
    divides: bool,
}

impl<'a> View<'a> {
    fn of(form: StoredForm<'a>) -> Result<View<'a>, String> {
        let codes = form.tensors.first().ok_or("a parameter without tensors")?;
        let divides = codes.name.ends_with(".weight_packed");
        let (scale, common) = (needed(form, ".weight_scale")?, needed(form, FORMS[usize::from(divides)].1)?);
        for other in [".pre_quant_scale", ".weight_zero_point"] {
            if let Some((_, other)) = named(form, other) {
                return Err(format!("{} changes the values of {}, which is not known", other.name, codes.name));
            }
        }
        let [rows, half] = *codes.shape.as_slice() else { return Err(format!("{} is no matrix", shown(codes))) };
        let cols = half.saturating_mul(2);
        extents(codes, rows, cols)?;
        let fits = codes.dtype == Dtype::U8
            && cols.is_multiple_of(GROUP)
            && scale.1.dtype == Dtype::F8_E4M3
            && scale.1.shape == [rows, cols / GROUP]
            && common.1.dtype == Dtype::F32
            && common.1.elements() == 1;
        let told =
            || format!("{} and {} do not fit {} in groups of {GROUP}", shown(scale.1), shown(common.1), shown(codes));
        fits.then_some(View { rows, cols, codes: (0, codes), scale, common, divides }).ok_or_else(told)
    }

    fn lanes(&self) -> [Lane<'a>; 3] {
        [Lane::rows(self.codes, self.rows), Lane::rows(self.scale, self.rows), Lane::whole(self.common)]
    }
}

impl Layout for Nvfp4 {
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String> {
        View::of(form).map(|view| vec![view.rows, view.cols])
    }

    fn ranges(&self, form: StoredForm<'_>, rows: Range<u64>) -> Vec<Stretch> {
        View::of(form).map(|view| view.lanes().iter().map(|lane| lane.stretch(&rows)).collect()).unwrap_or_default()
    }

    fn decode(&self, form: StoredForm<'_>, _: Range<u64>, bytes: &[&[u8]], _: Floats<'_>, out: &mut [f32]) {
        let (Ok(view), [codes, scales, common]) = (View::of(form), bytes) else { return };
        let common = common.first_chunk().map_or(f32::NAN, |common| f32::from_le_bytes(*common));
        // The groups of a row are whole.
        let factors =
            scales.iter().map(|scale| if view.divides { e4m3(*scale) / common } else { e4m3(*scale) * common });
        fp4::decode(codes, GROUP as usize, factors, out);
    }

    fn portion(&self, form: StoredForm<'_>, rows: Range<u64>) -> Option<(Vec<Source>, Vec<u64>)> {
        let view = View::of(form).ok()?;
        Some((portion(&view.lanes(), &rows, view.rows)?, Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{decoded, said, tensor};
    use super::*;

    fn tensors(form: usize) -> Vec<Source> {
        vec![
            tensor(&format!("m{}", FORMS[form].0), Dtype::U8, &[2, 16]),
            tensor("m.weight_scale", Dtype::F8_E4M3, &[2, 2]),
            tensor(&format!("m{}", FORMS[form].1), Dtype::F32, &[1]),
        ]
    }

    #[test]
    fn the_scale_of_the_tensor_multiplies_or_divides() {
        // Codes 1 (0.5) and 15 (-6); scales 1, 2, 3, 4.
        let (codes, scales, common) = ([0xF1; 32], [0x38, 0x40, 0x44, 0x48], 3.0f32.to_le_bytes());
        for (at, factor) in [|scale: f32| scale * 3.0, |scale: f32| scale / 3.0].into_iter().enumerate() {
            let tensors = tensors(at);
            let form = StoredForm { tensors: &tensors, settings: &[] };
            assert_eq!(Nvfp4.dims(form).unwrap(), [2, 32]);
            let bytes: [&[u8]; 3] = [&codes, &scales, &common];
            let all = decoded(&Nvfp4, form, &bytes, 0..2);
            let expected: Vec<f32> = (0..64).map(|i| [0.5, -6.0][i % 2] * factor((i / 16 + 1) as f32)).collect();
            assert_eq!(all, expected);
            assert_eq!(decoded(&Nvfp4, form, &bytes, 1..2), expected[32..]);
            let (own, _) = Nvfp4.portion(form, 1..2).unwrap();
            assert_eq!(own.iter().map(|t| t.offset).collect::<Vec<_>>(), [16, 2, 0]);
        }
    }

    #[test]
    fn config_and_tensors_have_to_agree() {
        let told = |form, held| said(tensors(form), held, &[]).stored.start();
        assert!(told(0, json!(null)).is_ok() && told(0, json!({"quant_method": "modelopt"})).is_ok());
        let of = |format: &str| json!({"quant_method": "compressed-tensors", "format": format});
        assert!(told(1, of("nvfp4-pack-quantized")).is_ok());
        for (refused, why) in [
            (told(0, of("nvfp4-pack-quantized")), "the method compressed-tensors, and m.weight is modelopt's"),
            (told(1, of("pack-quantized")), "the format pack-quantized, and m.weight_packed is nvfp4-pack-quantized"),
        ] {
            let refused = refused.unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let mut scaled = tensors(0);
        scaled.push(tensor("m.pre_quant_scale", Dtype::BF16, &[32]));
        let refused = said(scaled, json!(null), &[]).stored.start().unwrap_err();
        assert!(refused.contains("m.pre_quant_scale changes the values of m.weight"), "{refused}");
        let mut wrong = tensors(0);
        wrong[1].shape = vec![2, 4];
        let refused = said(wrong, json!(null), &[]).stored.start().unwrap_err();
        assert!(refused.contains("do not fit m.weight (U8 [2, 16]) in groups of 16"), "{refused}");
    }
}
