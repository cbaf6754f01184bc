//! AWQ: 4-bit integers packed along the outputs, a scale and a zero point for each group. The layout is `gemm`.
//!
//! `X.qweight` is I32 [in, out / 8], `X.qzeros` I32 [groups, out / 8] and `X.scales` [groups, out]. A word has eight outputs, in this order
//! from the lowest bits: 0, 2, 4, 6, 1, 3, 5, 7. value = (code - zero) x scale: AutoAWQ's `dequantize_gemm` (`packing_utils.py`).

use std::ops::Range;

use super::companions::{beside, needed, shown};
use super::grouped::{Grouped, nth};
use super::told;
use crate::base::quantisation::Quantisation;
use crate::base::scheme::claim::{Claim, Encode, Floats, Layout, Scheme, StoredForm, Stretch, Tensors, Told};
use crate::inventory::Source;
use crate::tensor::Dtype;

/// The bits of a code.
const BITS: u64 = 4;
/// Where in a word each of eight outputs lies: `AWQ_REVERSE_ORDER`.
const PLACES: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Inputs that are decoded together: few enough that their lines of codes and of values stay in the first cache.
const RUN: usize = 8;

/// The scheme, and its layout. The setting is the inputs of a group.
#[derive(Debug)]
pub struct Awq;

impl Scheme for Awq {
    fn name(&self) -> &'static str {
        "awq"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        let module = codes.name.strip_suffix(".qweight").filter(|_| codes.dtype == Dtype::I32)?;
        let places = beside(at, module, tensors, &[".qzeros", ".scales"], &[])?;
        let (inputs, scales) = (codes.shape.first().copied()?, tensors.at(places[2]));
        let outputs = scales.shape.last().copied()?;
        let settings = settings(outputs, inputs, [codes, scales], tensors.quantisation);
        Some(Claim { name: format!("{module}.weight"), dims: vec![outputs, inputs], tensors: places, settings })
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        Some(&Awq)
    }

    fn encode(&self) -> Result<&'static dyn Encode, &'static str> {
        Err("AWQ calibrates its scales, and they do not follow from the values")
    }
}

fn settings(outputs: u64, inputs: u64, [codes, scales]: [&Source; 2], said: &Quantisation) -> Told {
    if said.method.as_deref() == Some("gptq") {
        return Err(format!("config.json names the method gptq, and {} has no tensor *.g_idx beside it", codes.name));
    }
    told::method(said, &["awq"], codes)?;
    told::format(said, &["gemm"], codes)?;
    told::symmetry(said, false, codes)?;
    told::bits(said, codes, |bits| {
        codes.shape.last().is_some_and(|words| outputs.checked_mul(bits) == words.checked_mul(32))
    })?;
    Ok(vec![told::group(said, inputs, scales.shape.first().copied().unwrap_or(1), scales)?])
}

/// The tensors of a parameter whose form was approved, and the inputs of a group.
fn view(form: StoredForm<'_>) -> Result<(Grouped<'_>, usize), String> {
    let (_, codes) = needed(form, ".qweight")?;
    let ([group @ (1..)], [inputs, words]) = (form.settings, codes.shape.as_slice()) else {
        return Err(format!("{} with the settings {:?}", shown(codes), form.settings));
    };
    let all = Grouped::of(form, *inputs, inputs.div_ceil(*group), BITS)?;
    let fits = words.checked_mul(8) == Some(all.outputs as u64);
    fits.then_some((all, *group as usize))
        .ok_or_else(|| format!("{} does not hold codes of 4 bits of the outputs", shown(codes)))
}

impl Layout for Awq {
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String> {
        view(form).map(|(all, _)| vec![all.outputs as u64, all.inputs as u64])
    }

    fn ranges(&self, form: StoredForm<'_>, _: Range<u64>) -> Vec<Stretch> {
        view(form).map(|(all, _)| all.ranges(None)).unwrap_or_default()
    }

    fn decode(&self, form: StoredForm<'_>, rows: Range<u64>, bytes: &[&[u8]], floats: Floats<'_>, out: &mut [f32]) {
        let (Ok((all, group)), [codes, zeros, scales]) = (view(form), bytes) else { return };
        let outputs = rows.start as usize..rows.end as usize;
        let place = |output: usize| output / 8 * 8 + PLACES[output % 8];
        let scales = all.scales(&outputs, [zeros, scales], floats, |words, output| nth(words, place(output), BITS));
        let line = all.outputs / 2;
        for first in (0..all.inputs).step_by(RUN) {
            let inputs = first..(first + RUN).min(all.inputs);
            for column in outputs.start / 8..outputs.end.div_ceil(8) {
                let mut words = [0; RUN];
                for (word, input) in words.iter_mut().zip(inputs.clone()) {
                    *word =
                        codes[input * line + column * 4..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
                }
                for output in outputs.start.max(column * 8)..outputs.end.min(column * 8 + 8) {
                    let (row, shift) = (output - outputs.start, PLACES[output % 8] * 4);
                    let out = &mut out[row * all.inputs..][inputs.clone()];
                    let scale = |input: usize| scales[input / group * outputs.len() + row];
                    if first / group == (inputs.end - 1) / group {
                        let [zero, scale] = scale(first);
                        out.iter_mut().zip(words).for_each(|(out, word)| *out = value(word >> shift, zero, scale));
                        continue;
                    }
                    for ((out, word), [zero, scale]) in out.iter_mut().zip(words).zip(inputs.clone().map(scale)) {
                        *out = value(word >> shift, zero, scale);
                    }
                }
            }
        }
    }
}

/// The value of the lowest code of a word.
fn value(word: u32, zero: f32, scale: f32) -> f32 {
    // As i32, since processors convert no other integers to floats at once.
    ((word & 15) as i32 as f32 - zero) * scale
}

#[cfg(test)]
mod tests {
    use super::super::tests::{decoded, said, tensor, words};
    use super::*;

    #[test]
    fn words_have_eight_outputs_in_their_own_order() {
        // 8 outputs, 2 inputs, a group each. Half-byte p of input 0 is p, of input 1 is 15 - p. All zero points are 1, then 2.
        let tensors = [
            tensor("m.qweight", Dtype::I32, &[2, 1]),
            tensor("m.qzeros", Dtype::I32, &[2, 1]),
            tensor("m.scales", Dtype::F32, &[2, 8]),
        ];
        let form = StoredForm { tensors: &tensors, settings: &[1] };
        assert_eq!(Awq.dims(form).unwrap(), [8, 2]);
        let codes = words(&[0x7654_3210, 0x89AB_CDEF]);
        let zeros = words(&[0x1111_1111, 0x2222_2222]);
        let scales: Vec<u8> = (0..16).flat_map(|i| if i < 8 { 1.0f32 } else { 10.0 }.to_le_bytes()).collect();
        let all = decoded(&Awq, form, &[&codes, &zeros, &scales], 0..8);
        // Output 1 is half-byte 4, output 2 half-byte 1: AutoAWQ's AWQ_ORDER is 0, 2, 4, 6, 1, 3, 5, 7.
        let places = [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0];
        let expected: Vec<f32> = places.iter().flat_map(|place| [place - 1.0, (15.0 - place - 2.0) * 10.0]).collect();
        assert_eq!(all, expected);
        assert_eq!(decoded(&Awq, form, &[&codes, &zeros, &scales], 3..5), expected[6..10]);
    }

    #[test]
    fn any_outputs_are_those_of_the_definition() {
        // 16 outputs and 22 inputs in groups of 6: runs of inputs are in two groups, and the last one is short.
        let (outputs, inputs, group) = (16, 22, 6);
        let groups = 4;
        let tensors = [
            tensor("m.qweight", Dtype::I32, &[inputs, 2]),
            tensor("m.qzeros", Dtype::I32, &[groups, 2]),
            tensor("m.scales", Dtype::F32, &[groups, outputs]),
        ];
        let form = StoredForm { tensors: &tensors, settings: &[group] };
        let bytes = |count: u64, step: u64| -> Vec<u8> { (0..count).map(|i| (i * step + i / 7) as u8).collect() };
        let (codes, zeros) = (bytes(inputs * 8, 53), bytes(groups * 8, 29));
        let scale = |group: usize, output: usize| (1 + group + 3 * output) as f32;
        let scales: Vec<u8> = (0..64).flat_map(|i| scale(i / 16, i % 16).to_le_bytes()).collect();
        let held = |bytes: &[u8], line: usize, output: usize| {
            let place = output / 8 * 8 + PLACES[output % 8];
            f32::from(bytes[line * 8 + place / 2] >> (place % 2 * 4) & 15)
        };
        let value = |output: usize, input: usize| {
            let group = input / group as usize;
            (held(&codes, input, output) - held(&zeros, group, output)) * scale(group, output)
        };
        for rows in [0..16, 0..1, 3..13, 8..16, 15..16] {
            let expected: Vec<f32> =
                rows.clone().flat_map(|o| (0..22).map(move |i| (o, i))).map(|(o, i)| value(o as usize, i)).collect();
            assert_eq!(decoded(&Awq, form, &[&codes, &zeros, &scales], rows), expected);
        }
    }

    #[test]
    fn config_and_tensors_have_to_agree() {
        let tensors = || {
            vec![
                tensor("m.qweight", Dtype::I32, &[32, 2]),
                tensor("m.qzeros", Dtype::I32, &[2, 2]),
                tensor("m.scales", Dtype::F16, &[2, 16]),
            ]
        };
        let told = |held: serde_json::Value| said(tensors(), held, &[]).stored.start();
        let of = |bits: u64, group: u64, version: &str| {
            told(
                serde_json::json!({"quant_method": "awq", "bits": bits, "group_size": group, "version": version, "zero_point": true}),
            )
        };
        assert_eq!(of(4, 16, "GEMM").unwrap().dims(), [16, 32]);
        for (refused, why) in [
            (of(8, 16, "gemm"), "names 8 bits, and the shape of m.qweight (I32 [32, 2]) is that of codes of 4 bits"),
            (of(4, 32, "gemm"), "names groups of 32 columns, and m.scales (F16 [2, 16]) has 2 for 32"),
            (of(4, 16, "gemv"), "names the format gemv, and m.qweight is gemm"),
            (
                told(serde_json::json!({"quant_method": "awq", "zero_point": false})),
                "weights are symmetric, and m.qweight has",
            ),
            (told(serde_json::json!({"quant_method": "gptq"})), "the method gptq, and m.qweight has no tensor *.g_idx"),
        ] {
            let refused = refused.unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let of = |codes: &[u64], scales: &[u64], settings: &[u64]| {
            let tensors = [
                tensor("m.qweight", Dtype::I32, codes),
                tensor("m.qzeros", Dtype::I32, &[2, 2]),
                tensor("m.scales", Dtype::F16, scales),
            ];
            Awq.dims(StoredForm { tensors: &tensors, settings })
                .map_err(|why| assert!(why.contains("m.qweight"), "{why}"))
        };
        assert!(of(&[32, 2], &[2, 16], &[16]).is_ok());
        assert!(of(&[32, 3], &[2, 16], &[16]).is_err());
        assert!(of(&[32, 2], &[2, 16], &[8]).is_err());
        assert!(of(&[32, 2], &[2, 16], &[0]).is_err());
        assert!(of(&[32, 2], &[2, 24], &[16]).is_err());
    }
}
