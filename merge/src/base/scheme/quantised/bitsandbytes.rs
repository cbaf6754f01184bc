//! NF4 and FP4 of bitsandbytes: blocks of values with a scale each, in the order of the parameter's values.
//!
//! `X.weight` holds two codes a byte with the first in the upper half (U8 [n / 2, 1], or another type of as many bytes).
//! `X.weight.quant_map` F32 [16] has their values, `X.weight.absmax` F32 a scale for each block, and `X.weight.quant_state.bitsandbytes__nf4`
//! (or `fp4`) JSON with the shape and the size of a block: value = `quant_map`[code] x `absmax`. Nested scales are bytes:
//! absmax = `nested_quant_map`[byte] x `nested_absmax` + `nested_offset`. All in fp32: bitsandbytes' `dequantize_4bit` and
//! `dequantize_blockwise`.

use std::ops::Range;

use serde_json::Value;

use super::companions::{beside, elements, needed, shown};
use super::told;
use super::values::scales;
use crate::base::scheme::claim::{Claim, Encode, Floats, Layout, Scheme, StoredForm, Stretch, Tensors, Told};
use crate::inventory::Source;
use crate::tensor::{Dtype, matrix};

/// Endings of the names of the tensors that say what the codes are, and the kind of codes.
const STATES: [&str; 2] = [".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4"];

/// Why no form of bitsandbytes is encoded again.
pub(super) const NOT_ENCODED: &str = "re-encoding for bitsandbytes is not there yet";

/// The scheme, and its layout. The settings are the values of a block, the scales of a block of them (0 if they are not
/// nested), the bits of what is added to nested scales, and the shape.
#[derive(Debug)]
pub struct BitsAndBytes;

impl Scheme for BitsAndBytes {
    fn name(&self) -> &'static str {
        "bitsandbytes"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        if !codes.name.ends_with(".weight") {
            return None;
        }
        let also = [".nested_absmax", ".nested_quant_map", STATES[0], STATES[1]];
        let places = beside(at, &codes.name, tensors, &[".absmax", ".quant_map"], &also)?;
        let settings = settings(codes, tensors);
        let dims = settings.as_ref().map_or_else(|_| codes.shape.clone(), |settings| settings[3..].to_vec());
        Some(Claim { name: codes.name.clone(), dims, tensors: places, settings })
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        Some(&BitsAndBytes)
    }

    fn encode(&self) -> Result<&'static dyn Encode, &'static str> {
        Err(NOT_ENCODED)
    }

    fn small(&self) -> &'static [&'static str] {
        &STATES
    }
}

fn settings(codes: &Source, tensors: &Tensors<'_>) -> Told {
    told::method(tensors.quantisation, &["bitsandbytes"], codes)?;
    let names = STATES.map(|ending| format!("{}{ending}", codes.name));
    let mut read = names.iter().filter_map(|name| Some((name, tensors.small.get(name)?)));
    let (name, bytes) = read.next().ok_or_else(|| format!("neither {} nor {} was read", names[0], names[1]))?;
    if let Some((other, _)) = read.next() {
        return Err(format!("{name} and {other} are both there"));
    }
    let state: Value = serde_json::from_slice(bytes).map_err(|e| format!("{name} is no JSON: {e}"))?;
    let kind = state.get("quant_type").and_then(Value::as_str).filter(|kind| name.ends_with(kind) && !kind.is_empty());
    let kind = kind.ok_or_else(|| format!("{name} has the quant_type {}", state["quant_type"]))?;
    told::format(tensors.quantisation, &[kind], codes)?;
    let number = |key: &str| {
        let number = state.get(key).and_then(Value::as_u64).filter(|number| *number > 0);
        number.ok_or_else(|| format!("{name} has the {key} {}", state[key]))
    };
    let shape = state.get("shape").and_then(Value::as_array);
    let shape: Option<Vec<u64>> = shape.map(Vec::as_slice).unwrap_or(&[]).iter().map(Value::as_u64).collect();
    let shape =
        shape.filter(|shape| !shape.is_empty()).ok_or_else(|| format!("{name} has the shape {}", state["shape"]))?;
    let nested = match state.get("nested_blocksize") {
        None => [0, 0],
        Some(_) => {
            let offset = state.get("nested_offset").and_then(Value::as_f64);
            let offset = offset.ok_or_else(|| format!("{name} has the nested_offset {}", state["nested_offset"]))?;
            [number("nested_blocksize")?, u64::from((offset as f32).to_bits())]
        }
    };
    Ok([&[number("blocksize")?][..], &nested, &shape].concat())
}

/// A parameter whose form was approved.
struct View<'a> {
    dims: &'a [u64],
    cols: u64,
    /// Values of a block.
    block: u64,
    codes: (usize, &'a Source),
    absmax: (usize, &'a Source),
    map: (usize, &'a Source),
    nested: Option<Nested<'a>>,
}

/// The scales of scales.
struct Nested<'a> {
    /// Scales of a block.
    block: u64,
    offset: f32,
    absmax: (usize, &'a Source),
    map: (usize, &'a Source),
}

impl<'a> View<'a> {
    fn of(form: StoredForm<'a>) -> Result<View<'a>, String> {
        let (codes, absmax, map) =
            (needed(form, ".weight")?, needed(form, ".weight.absmax")?, needed(form, ".weight.quant_map")?);
        let [block @ (1..), inner, offset, dims @ ..] = form.settings else {
            return Err(format!("{} with the settings {:?}", shown(codes.1), form.settings));
        };
        let all = elements(dims).filter(|all| (1..=1 << 60).contains(all) && !dims.is_empty());
        let all = all.ok_or_else(|| format!("{} would be a parameter of {dims:?}", shown(codes.1)))?;
        let nested = match inner {
            0 => None,
            block => {
                let offset = f32::from_bits(u32::try_from(*offset).map_err(|e| e.to_string())?);
                let (absmax, map) = (needed(form, ".nested_absmax")?, needed(form, ".nested_quant_map")?);
                Some(Nested { block: *block, offset, absmax, map })
            }
        };
        let is = |(_, tensor): (usize, &Source), dtype: Dtype, count: u64| match tensor.dtype == dtype
            && tensor.elements() == count
        {
            true => Ok(()),
            false => Err(format!("{} does not fit {dims:?} values in blocks of {block}", shown(tensor))),
        };
        if codes.1.bytes() != all.div_ceil(2) {
            return Err(format!("{} does not hold 4 bits for each of {dims:?} values", shown(codes.1)));
        }
        let blocks = all.div_ceil(*block);
        is(absmax, if nested.is_some() { Dtype::U8 } else { Dtype::F32 }, blocks)?;
        is(map, Dtype::F32, 16)?;
        if let Some(nested) = &nested {
            is(nested.absmax, Dtype::F32, blocks.div_ceil(nested.block))?;
            is(nested.map, Dtype::F32, 256)?;
        }
        let (_, cols) = matrix(dims);
        Ok(View { dims, cols, block: *block, codes, absmax, map, nested })
    }

    /// The values of rows, and the blocks that they lie in.
    fn values(&self, rows: &Range<u64>) -> (Range<u64>, Range<u64>) {
        let values = rows.start * self.cols..rows.end * self.cols;
        (values.clone(), values.start / self.block..values.end.div_ceil(self.block))
    }

    fn ranges(&self, rows: &Range<u64>) -> Vec<Stretch> {
        let (values, blocks) = self.values(rows);
        let of = |(tensor, _): (usize, &Source), bytes| Stretch { tensor, bytes };
        let whole = |tensor: (usize, &Source)| of(tensor, 0..tensor.1.bytes());
        let codes = of(self.codes, values.start / 2..values.end.div_ceil(2));
        let Some(nested) = &self.nested else {
            return vec![codes, of(self.absmax, blocks.start * 4..blocks.end * 4), whole(self.map)];
        };
        let outer = blocks.start / nested.block * 4..blocks.end.div_ceil(nested.block) * 4;
        vec![codes, of(self.absmax, blocks), whole(self.map), of(nested.absmax, outer), whole(nested.map)]
    }

    /// The scales of blocks.
    fn scales(&self, blocks: Range<u64>, bytes: &[u8], more: &[&[u8]], floats: Floats<'_>) -> Vec<f32> {
        let (Some(nested), [absmax, map]) = (&self.nested, more) else { return scales(Dtype::F32, bytes, floats) };
        let (absmax, map) = (scales(Dtype::F32, absmax, floats), scales(Dtype::F32, map, floats));
        let first = blocks.start / nested.block;
        let outer = |block: u64| absmax[(block / nested.block - first) as usize];
        blocks.zip(bytes).map(|(block, byte)| map[usize::from(*byte)] * outer(block) + nested.offset).collect()
    }
}

impl Layout for BitsAndBytes {
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String> {
        View::of(form).map(|view| view.dims.to_vec())
    }

    fn ranges(&self, form: StoredForm<'_>, rows: Range<u64>) -> Vec<Stretch> {
        View::of(form).map(|view| view.ranges(&rows)).unwrap_or_default()
    }

    fn decode(&self, form: StoredForm<'_>, rows: Range<u64>, bytes: &[&[u8]], floats: Floats<'_>, out: &mut [f32]) {
        let (Ok(view), [codes, absmax, map, more @ ..]) = (View::of(form), bytes) else { return };
        let (values, blocks) = view.values(&rows);
        let map = scales(Dtype::F32, map, floats);
        let scales = view.scales(blocks.clone(), absmax, more, floats);
        let start = values.start / 2 * 2;
        for (block, scale) in blocks.zip(scales) {
            let own = values.start.max(block * view.block)..values.end.min((block + 1) * view.block);
            let table: [f32; 16] = std::array::from_fn(|code| map[code] * scale);
            let out = &mut out[(own.start - values.start) as usize..(own.end - values.start) as usize];
            let at = (own.start - start) as usize;
            if at.is_multiple_of(2) && out.len().is_multiple_of(2) {
                for (byte, [first, second]) in codes[at / 2..].iter().zip(out.as_chunks_mut().0) {
                    *first = table[usize::from(byte >> 4)];
                    *second = table[usize::from(byte & 15)];
                }
                continue;
            }
            for (at, out) in (at..).zip(out) {
                *out = table[usize::from(codes[at / 2] >> (4 - at % 2 * 4) & 15)];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{decoded, said, tensor};
    use super::*;

    fn tensors(nested: bool) -> Vec<Source> {
        let state = STATES[0];
        // 3 x 5 values in blocks of 4, their scales in blocks of 3.
        let mut all = vec![
            tensor("m.weight", Dtype::U8, &[8, 1]),
            tensor("m.weight.absmax", if nested { Dtype::U8 } else { Dtype::F32 }, &[4]),
            tensor("m.weight.quant_map", Dtype::F32, &[16]),
            tensor(&format!("m.weight{state}"), Dtype::U8, &[80]),
        ];
        if nested {
            all.push(tensor("m.weight.nested_absmax", Dtype::F32, &[2]));
            all.push(tensor("m.weight.nested_quant_map", Dtype::F32, &[256]));
        }
        all
    }

    fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
        values.into_iter().flat_map(f32::to_le_bytes).collect()
    }

    #[test]
    fn the_first_code_is_the_upper_half_and_blocks_run_over_rows() {
        let tensors = tensors(false);
        let form = StoredForm { tensors: &tensors, settings: &[4, 0, 0, 3, 5] };
        assert_eq!(BitsAndBytes.dims(form).unwrap(), [3, 5]);
        // Value i has code i; the value of code c is c; the scales of the blocks are 1, 10, 100, 1000.
        let codes: Vec<u8> = (0..8).map(|i| (2 * i) << 4 | (2 * i + 1)).collect();
        let (absmax, map) = (floats([1.0, 10.0, 100.0, 1000.0]), floats((0..16).map(|c| c as f32)));
        let all = decoded(&BitsAndBytes, form, &[&codes, &absmax, &map], 0..3);
        let expected = [0., 1., 2., 3., 40., 50., 60., 70., 800., 900., 1000., 1100., 12000., 13000., 14000.];
        assert_eq!(all, expected);
        assert_eq!(decoded(&BitsAndBytes, form, &[&codes, &absmax, &map], 1..2), expected[5..10]);
    }

    #[test]
    fn nested_scales_are_bytes_with_scales_and_an_offset() {
        let tensors = tensors(true);
        let form = StoredForm { tensors: &tensors, settings: &[4, 3, u64::from(0.5f32.to_bits()), 3, 5] };
        assert_eq!(BitsAndBytes.dims(form).unwrap(), [3, 5]);
        let (codes, map) = ([0x11; 8], floats([1.0; 16]));
        let (outer, inner) = (floats([2.0, 10.0]), floats((0..256).map(|c| c as f32)));
        let bytes: [&[u8]; 5] = [&codes, &[1, 2, 3, 4], &map, &outer, &inner];
        let all = decoded(&BitsAndBytes, form, &bytes, 0..3);
        assert_eq!((all[0], all[4], all[8], all[12]), (2.5, 4.5, 6.5, 40.5));
        assert_eq!(decoded(&BitsAndBytes, form, &bytes, 2..3), all[10..]);
    }

    #[test]
    fn the_state_tells_shape_and_blocks_and_config_the_kind() {
        let told = |state: Value, held: Value| {
            let name = "m.weight.quant_state.bitsandbytes__nf4";
            said(tensors(false), held, &[(name, state.to_string().into_bytes())])
        };
        let state = |kind: &str| json!({"quant_type": kind, "blocksize": 4, "shape": [3, 5], "dtype": "bfloat16"});
        let held = || json!({"quant_method": "bitsandbytes", "bnb_4bit_quant_type": "nf4"});
        let fine = told(state("nf4"), held());
        assert_eq!((fine.dims.clone(), fine.stored.start().unwrap().dims().to_vec()), (vec![3, 5], vec![3, 5]));
        let of_fp4 = json!({"quant_method": "bitsandbytes", "bnb_4bit_quant_type": "fp4"});
        for (state, held, why) in [
            (state("fp4"), held(), "has the quant_type \"fp4\""),
            (state("nf4"), of_fp4, "names the format fp4, and m.weight is nf4"),
            (json!({"quant_type": "nf4", "shape": [3, 5]}), held(), "has the blocksize null"),
            (
                json!({"quant_type": "nf4", "blocksize": 4, "shape": [3, 6]}),
                held(),
                "does not hold 4 bits for each of [3, 6]",
            ),
            (
                json!({"quant_type": "nf4", "blocksize": 2, "shape": [3, 5]}),
                held(),
                "m.weight.absmax (F32 [4]) does not fit",
            ),
        ] {
            let refused = told(state, held).stored.start().unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let refused = said(tensors(false), held(), &[]).stored.start().unwrap_err();
        assert!(refused.contains("was read"), "{refused}");
    }
}
