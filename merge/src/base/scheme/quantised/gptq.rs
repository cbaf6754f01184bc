//! GPTQ: integers packed along the inputs, a scale and a zero point for each group.
//!
//! `X.qweight` is I32 [in x bits / 32, out], `X.qzeros` I32 [groups, out x bits / 32], `X.scales` [groups, out] and `X.g_idx` I32 [in]
//! the group of each input. AWQ has the same names and no `g_idx`. Codes are a stream of bits over the words of a column, with the
//! lowest first. value = scale x (code - zero): AutoGPTQ's `QuantLinear.forward` (`qlinear_cuda_old.py`). The first format stores
//! a zero point less one, so that 15 stands for 0; `gptq_v2` stores it as it is.

use std::ops::Range;

use super::companions::{beside, needed, shown};
use super::grouped::{Grouped, nth};
use super::told;
use crate::base::quantisation::Quantisation;
use crate::base::scheme::claim::{Claim, Encode, Floats, Layout, Scheme, StoredForm, Stretch, Tensors, Told};
use crate::inventory::Source;
use crate::tensor::Dtype;

/// The scheme, and its layout. The settings are the bits of a code, and what is added to a zero point that is stored.
#[derive(Debug)]
pub struct Gptq;

impl Scheme for Gptq {
    fn name(&self) -> &'static str {
        "gptq"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        let module = codes.name.strip_suffix(".qweight").filter(|_| codes.dtype == Dtype::I32)?;
        let places = beside(at, module, tensors, &[".qzeros", ".scales", ".g_idx"], &[])?;
        let outputs = codes.shape.last().copied()?;
        let inputs = tensors.at(places[3]).elements();
        let settings =
            settings(outputs, inputs, [codes, tensors.at(places[1]), tensors.at(places[2])], tensors.quantisation);
        Some(Claim { name: format!("{module}.weight"), dims: vec![outputs, inputs], tensors: places, settings })
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        Some(&Gptq)
    }

    fn encode(&self) -> Result<&'static dyn Encode, &'static str> {
        Err("GPTQ calibrates its codes, and they do not follow from the values")
    }
}

fn settings(outputs: u64, inputs: u64, [codes, zeros, scales]: [&Source; 3], said: &Quantisation) -> Told {
    told::method(said, &["gptq"], codes)?;
    let is = |format: &str| said.formats.iter().any(|said| said == format);
    let plus = match (is("gptq"), is("gptq_v2")) {
        (true, false) => 1,
        (false, true) => 0,
        (false, false) if said.formats.is_empty() => 1,
        _ => {
            let named = said.formats.join(", ");
            return Err(format!(
                "config.json names the format {named}, and {} is known as gptq or gptq_v2",
                codes.name
            ));
        }
    };
    let words = |values: u64, bits: u64| values.checked_mul(bits).map(|bits| bits.div_ceil(32));
    let bits = told::bits(said, codes, |bits| {
        codes.shape.first().copied() == words(inputs, bits) && zeros.shape.last().copied() == words(outputs, bits)
    })?;
    told::group(said, inputs, scales.shape.first().copied().unwrap_or(1), scales)?;
    Ok(vec![bits, plus])
}

/// A parameter whose form was approved.
struct View<'a> {
    all: Grouped<'a>,
    order: (usize, &'a Source),
    bits: u64,
    plus: f32,
}

impl<'a> View<'a> {
    fn of(form: StoredForm<'a>) -> Result<View<'a>, String> {
        let (order, (_, codes), (_, scales)) =
            (needed(form, ".g_idx")?, needed(form, ".qweight")?, needed(form, ".scales")?);
        let [bits @ (2 | 3 | 4 | 8), plus @ (0 | 1)] = *form.settings else {
            return Err(format!(
                "{} with the settings {:?}: codes have 2, 3, 4 or 8 bits",
                shown(codes),
                form.settings
            ));
        };
        let ([inputs], [words, _]) = (order.1.shape.as_slice(), codes.shape.as_slice()) else {
            return Err(format!("{} and {} are no vector and no matrix", shown(order.1), shown(codes)));
        };
        let all = Grouped::of(form, *inputs, scales.shape.first().copied().unwrap_or(0), bits)?;
        // Whole runs of codes: words that hold no part of a code of another run.
        let run = if bits == 3 { 32 } else { 32 / bits };
        let fits = order.1.dtype == Dtype::I32
            && inputs.is_multiple_of(run)
            && *words == inputs / run * (run * bits / 32)
            && codes.shape[1] == all.outputs as u64;
        if !fits {
            return Err(format!("{} and {} do not fit codes of {bits} bits", shown(codes), shown(order.1)));
        }
        Ok(View { all, order, bits, plus: plus as f32 })
    }
}

impl Layout for Gptq {
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String> {
        View::of(form).map(|view| vec![view.all.outputs as u64, view.all.inputs as u64])
    }

    fn ranges(&self, form: StoredForm<'_>, _: Range<u64>) -> Vec<Stretch> {
        View::of(form).map(|view| view.all.ranges(Some(view.order))).unwrap_or_default()
    }

    fn decode(&self, form: StoredForm<'_>, rows: Range<u64>, bytes: &[&[u8]], floats: Floats<'_>, out: &mut [f32]) {
        let (Ok(View { all, bits, plus, .. }), [codes, zeros, scales, order]) = (View::of(form), bytes) else { return };
        let outputs = rows.start as usize..rows.end as usize;
        let modulus = (1u32 << bits) as f32;
        let zero = |words: &[u8], output: usize| match nth(words, output, bits) + plus {
            zero if zero == modulus => 0.0,
            zero => zero,
        };
        let scales = all.scales(&outputs, [zeros, scales], floats, zero);
        // A group that is none has no value.
        let groups: Vec<usize> = order.as_chunks().0.iter().map(|group| i32::from_le_bytes(*group) as usize).collect();
        let (words, run) = if bits == 3 { (3, 32) } else { (1, 32 / bits as usize) };
        let line = all.outputs * 4;
        for (at, groups) in groups.chunks_exact(run).enumerate() {
            let lines = &codes[at * words * line..(at + 1) * words * line];
            let one = groups.iter().all(|group| *group == groups[0]);
            for (row, output) in outputs.clone().enumerate() {
                let word =
                    |k: usize| lines[k * line + output * 4..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
                let stream = (0..words).fold(0u128, |stream, k| stream | u128::from(word(k)) << (32 * k));
                let out = &mut out[row * all.inputs + at * run..][..run];
                let scale = |group: usize| match group < all.groups {
                    true => scales[group * outputs.len() + row],
                    false => [0.0, f32::NAN],
                };
                if bits == 3 || !one {
                    for (i, (out, group)) in out.iter_mut().zip(groups).enumerate() {
                        let [zero, scale] = scale(*group);
                        let code = (stream >> (i as u64 * bits)) as u32 & ((1 << bits) - 1);
                        *out = (code as f32 - zero) * scale;
                    }
                    continue;
                }
                let ([zero, scale], mut stream) = (scale(groups[0]), stream as u32);
                for out in out {
                    *out = ((stream & ((1 << bits) - 1)) as f32 - zero) * scale;
                    stream >>= bits;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{decoded, said, tensor, words};
    use super::*;

    /// 8 outputs, 32 inputs, 2 groups; every code and zero point is `code(input, output)` and `zero(group, output)`.
    fn packed(bits: u64, code: impl Fn(u64, u64) -> u64, zero: impl Fn(u64, u64) -> u64) -> [Vec<u8>; 2] {
        let put = |stream: &mut Vec<u8>, at: u64, value: u64| {
            (0..bits)
                .filter(|bit| value >> bit & 1 == 1)
                .for_each(|bit| stream[((at + bit) / 8) as usize] |= 1 << ((at + bit) % 8));
        };
        // Codes of an output are a stream down the rows of words.
        let mut codes = vec![0; (bits * 8 * 4) as usize];
        for output in 0..8 {
            let mut column = vec![0; (bits * 4) as usize];
            (0..32).for_each(|input| put(&mut column, input * bits, code(input, output)));
            for (row, word) in column.chunks(4).enumerate() {
                codes[(row * 8 + output as usize) * 4..][..4].copy_from_slice(word);
            }
        }
        let line = (8 * bits).div_ceil(32) as usize * 4;
        let mut zeros = vec![0; 2 * line];
        for (group, zeros) in zeros.chunks_mut(line).enumerate() {
            let mut own = zeros.to_vec();
            (0..8).for_each(|output| put(&mut own, output * bits, zero(group as u64, output)));
            zeros.copy_from_slice(&own);
        }
        [codes, zeros]
    }

    fn tensors(bits: u64) -> [Source; 4] {
        [
            tensor("m.qweight", Dtype::I32, &[bits, 8]),
            tensor("m.qzeros", Dtype::I32, &[2, (8 * bits).div_ceil(32)]),
            tensor("m.scales", Dtype::F32, &[2, 8]),
            tensor("m.g_idx", Dtype::I32, &[32]),
        ]
    }

    #[test]
    fn each_number_of_bits_and_both_formats() {
        // The scale of group g and output o is 2^g x (o + 1).
        let scales: Vec<u8> =
            (0..16).flat_map(|i| ((1 << (i / 8)) as f32 * (i % 8 + 1) as f32).to_le_bytes()).collect();
        for bits in [2, 3, 4, 8] {
            for (plus, in_order) in [(0, true), (1, true), (1, false)] {
                let mask = (1 << bits) - 1;
                let code = |input: u64, output: u64| (input * 7 + output * 3) & mask;
                // The last output's zero point is the largest: with one more, it is 0.
                let zero = |group: u64, output: u64| if output == 7 { mask } else { (group + output) & mask };
                let group_of = |input: u64| if in_order { input / 16 } else { input % 2 };
                let [codes, zeros] = packed(bits, code, zero);
                let order = words(&(0..32).map(|input| group_of(input) as u32).collect::<Vec<_>>());
                let tensors = tensors(bits);
                let form = StoredForm { tensors: &tensors, settings: &[bits, plus] };
                assert_eq!(Gptq.dims(form).unwrap(), [8, 32]);
                let bytes: [&[u8]; 4] = [&codes, &zeros, &scales, &order];
                let all = decoded(&Gptq, form, &bytes, 0..8);
                for (at, value) in all.iter().enumerate() {
                    let (output, input) = (at as u64 / 32, at as u64 % 32);
                    let group = group_of(input);
                    let zero = (zero(group, output) + plus) & mask;
                    let expected =
                        (code(input, output) as f32 - zero as f32) * (1 << group) as f32 * (output + 1) as f32;
                    assert_eq!(*value, expected, "{bits} bits, output {output}, input {input}");
                }
                assert_eq!(decoded(&Gptq, form, &bytes, 3..6), all[96..192]);
            }
        }
    }

    #[test]
    fn an_input_of_no_group_has_no_value() {
        let [codes, zeros] = packed(4, |_, _| 1, |_, _| 0);
        let mut order = [0u32; 32];
        (order[5], order[6]) = (2, u32::MAX);
        let (tensors, scales) = (tensors(4), [0; 64]);
        let form = StoredForm { tensors: &tensors, settings: &[4, 0] };
        let all = decoded(&Gptq, form, &[&codes, &zeros, &scales, &words(&order)], 0..1);
        assert_eq!(
            all.iter().map(|value| value.is_nan()).collect::<Vec<_>>(),
            (0..32).map(|i| [5, 6].contains(&i)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn config_and_tensors_have_to_agree() {
        let told = |held| said(tensors(4).to_vec(), held, &[]).stored.start();
        let of = |bits: u64, group: i64, format: &str| {
            told(
                serde_json::json!({"quant_method": "gptq", "bits": bits, "group_size": group, "checkpoint_format": format}),
            )
        };
        assert_eq!(of(4, 16, "gptq").unwrap().dims(), [8, 32]);
        assert_ne!(of(4, 16, "gptq").unwrap(), of(4, 16, "gptq_v2").unwrap());
        for (refused, why) in [
            (of(8, 16, "gptq"), "names 8 bits, and the shape of m.qweight (I32 [4, 8]) is that of codes of 4 bits"),
            (of(4, 8, "gptq"), "names groups of 8 columns, and m.scales (F32 [2, 8]) has 2 for 32"),
            (of(4, -1, "gptq"), "names groups of all columns"),
            (of(4, 16, "marlin"), "names the format marlin, and m.qweight is known as gptq or gptq_v2"),
            (told(serde_json::json!({"quant_method": "awq"})), "the method awq, and m.qweight is gptq's"),
        ] {
            let refused = refused.unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let change = |at: usize, shape: &[u64]| {
            let mut tensors = tensors(4);
            tensors[at].shape = shape.into();
            Gptq.dims(StoredForm { tensors: &tensors, settings: &[4, 1] })
        };
        assert!(change(0, &[4, 8]).is_ok());
        for (at, shape) in
            [(0, &[5, 8][..]), (0, &[4, 7]), (1, &[1, 1]), (2, &[0, 8]), (2, &[3, 8]), (3, &[31]), (3, &[1 << 62])]
        {
            assert!(change(at, shape).is_err(), "{at} {shape:?}");
        }
    }
}
