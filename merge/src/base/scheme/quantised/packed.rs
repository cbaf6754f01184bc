//! Integers that compressed-tensors packs into words: `pack-quantized`, 2, 4 or 8 bits.
//!
//! `X.weight_packed` is I32 [out, in x bits / 32] with the first code in the lowest bits, `X.weight_scale` [out, groups], and
//! `X.weight_shape` [2] has the shape. Zero points are packed along the outputs: `X.weight_zero_point` I32 [out x bits / 32, groups];
//! without them, the code of zero is in the middle. `X.weight_g_idx` says the group of each input. value = (code - zero) x
//! scale: compressed-tensors' `unpack_from_int32` and `dequantize`.
//!
//! Codes and scales come from values by compressed-tensors 0.20 (`calculate_qparams`, `quantize`, `pack_to_int32`), where there are
//! no zero points: scale = largest magnitude of the group / ((2^bits - 1) / 2), rounded to the dtype of the scale, and code = value
//! / scale, rounded to nearest even and cut off, plus the middle. An order of groups stays as it is.

use std::ops::Range;

use super::companions::{beside, extents, named, needed, shown, widened};
use super::lanes::{Lane, portion};
use super::told;
use super::values::{code, integers, largest, put_code, scales, to_scale};
use crate::base::quantisation::Quantisation;
use crate::base::scheme::claim::{
    Claim, Encode, Floats, Layout, Rule, Scheme, StoredForm, Stretch, Tensors, Told, Units,
};
use crate::inventory::Source;
use crate::tensor::Dtype;
use crate::tensor::float::Float;

/// The scheme, and its layout. The settings are rows and columns, the bits of a code, and the columns of a group.
#[derive(Debug)]
pub struct Packed;

impl Scheme for Packed {
    fn name(&self) -> &'static str {
        "compressed-tensors pack-quantized"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        let module = codes.name.strip_suffix(".weight_packed").filter(|_| codes.dtype == Dtype::I32)?;
        let also = [".weight_shape", ".weight_zero_point", ".weight_g_idx", ".input_scale", ".input_zero_point"];
        let places = beside(at, module, tensors, &[".weight_scale"], &also)?;
        let shape = shape(&format!("{module}.weight_shape"), tensors);
        // Without a shape that was read: codes of the bits that are named, four if none are.
        let each =
            tensors.quantisation.bits.iter().find(|bits| 32u64.is_multiple_of(**bits)).map_or(8, |bits| 32 / bits);
        let dims = shape.as_ref().map_or_else(|_| widened(&codes.shape, each), |shape| shape.to_vec());
        let settings = shape.and_then(|shape| settings(shape, &places, tensors));
        Some(Claim { name: format!("{module}.weight"), dims, tensors: places, settings })
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        Some(&Packed)
    }

    fn encode(&self) -> Result<&'static dyn Encode, &'static str> {
        Ok(&Packed)
    }

    fn small(&self) -> &'static [&'static str] {
        &[".weight_shape"]
    }
}

/// The values of `weight_shape`.
fn shape(name: &str, tensors: &Tensors<'_>) -> Result<[u64; 2], String> {
    let dtype = tensors.find(name).map(|at| tensors.at(at).dtype).ok_or_else(|| format!("{name} is not there"))?;
    let bytes = tensors.small.get(name).ok_or_else(|| format!("{name} was not read"))?;
    let sides = match dtype {
        Dtype::I64 => bytes.as_chunks().0.iter().map(|side| i64::from_le_bytes(*side)).collect::<Vec<_>>(),
        Dtype::I32 => bytes.as_chunks().0.iter().map(|side| i32::from_le_bytes(*side).into()).collect(),
        _ => return Err(format!("{name} is {dtype:?}, expected I64")),
    };
    let positive =
        sides.iter().map(|side| u64::try_from(*side).ok().filter(|side| *side > 0)).collect::<Option<Vec<_>>>();
    positive
        .and_then(|sides| sides.try_into().ok())
        .ok_or_else(|| format!("{name} holds {sides:?}, expected rows and columns"))
}

fn settings([rows, cols]: [u64; 2], places: &[usize], tensors: &Tensors<'_>) -> Told {
    let (codes, scale, said) = (tensors.at(places[0]), tensors.at(places[1]), tensors.quantisation);
    told::method(said, &["compressed-tensors"], codes)?;
    told::format(said, &["pack-quantized"], codes)?;
    let symmetric = !places.iter().any(|at| tensors.at(*at).name.ends_with(".weight_zero_point"));
    told::symmetry(said, symmetric, codes)?;
    extents(codes, rows, cols)?;
    let bits = told::bits(said, codes, |bits| codes.shape == [rows, (cols * bits).div_ceil(32)])?;
    let groups = scale.shape.get(1).copied().unwrap_or(1);
    Ok(vec![rows, cols, bits, told::group(said, cols, groups, scale)?])
}

/// A parameter whose form was approved.
struct View<'a> {
    rows: u64,
    cols: usize,
    bits: u64,
    group: usize,
    groups: usize,
    codes: (usize, &'a Source),
    scale: (usize, &'a Source),
    zeros: Option<(usize, &'a Source)>,
    order: Option<(usize, &'a Source)>,
}

impl<'a> View<'a> {
    fn of(form: StoredForm<'a>) -> Result<View<'a>, String> {
        let found @ (_, codes) = needed(form, ".weight_packed")?;
        let [rows, cols, bits @ (2 | 4 | 8), group @ (1..)] = *form.settings else {
            return Err(format!("{} with the settings {:?}: codes have 2, 4 or 8 bits", shown(codes), form.settings));
        };
        extents(codes, rows, cols)?;
        let groups = cols.div_ceil(group);
        let (scale, zeros, order) =
            (needed(form, ".weight_scale")?, named(form, ".weight_zero_point"), named(form, ".weight_g_idx"));
        let is = |tensor: &Source, fits: bool, expected: &[u64]| match fits && tensor.shape == expected {
            true => Ok(()),
            false => {
                Err(format!("{} does not fit {rows} x {cols} codes of {bits} bits in groups of {group}", shown(tensor)))
            }
        };
        is(codes, codes.dtype == Dtype::I32, &[rows, (cols * bits).div_ceil(32)])?;
        let each_row: &[u64] = if scale.1.shape.len() == 1 && groups == 1 { &[rows] } else { &[rows, groups] };
        is(scale.1, Float::of(scale.1.dtype).is_some(), each_row)?;
        if let Some((_, zeros)) = zeros {
            is(zeros, zeros.dtype == Dtype::I32, &[(rows * bits).div_ceil(32), groups])?;
        }
        if let Some((_, order)) = order {
            is(order, order.dtype == Dtype::I32, &[cols])?;
        }
        let (cols, group, groups) = (cols as usize, group as usize, groups as usize);
        Ok(View { rows, cols, bits, group, groups, codes: found, scale, zeros, order })
    }

    /// The groups of the columns by an order.
    fn groups_of(&self, order: &[u8]) -> impl Iterator<Item = usize> {
        let each = order.as_chunks().0.iter().enumerate();
        each.map(|(column, group)| match i32::from_le_bytes(*group) {
            // It was never set.
            -1 => column / self.group,
            group => group as usize,
        })
    }

    fn lanes(&self) -> Vec<Lane<'a>> {
        let zeros = self.zeros.map(|zeros| Lane::words(zeros, self.rows, self.bits));
        let lanes = [Lane::rows(self.codes, self.rows), Lane::rows(self.scale, self.rows)];
        lanes.into_iter().chain(zeros).chain(self.order.map(Lane::whole)).collect()
    }
}

impl Layout for Packed {
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String> {
        View::of(form).map(|view| vec![view.rows, view.cols as u64])
    }

    fn ranges(&self, form: StoredForm<'_>, rows: Range<u64>) -> Vec<Stretch> {
        let lanes = View::of(form).map(|view| view.lanes()).unwrap_or_default();
        lanes.iter().map(|lane| lane.stretch(&rows)).collect()
    }

    fn decode(&self, form: StoredForm<'_>, rows: Range<u64>, bytes: &[&[u8]], floats: Floats<'_>, out: &mut [f32]) {
        let (Ok(view), [codes, scale, more @ ..]) = (View::of(form), bytes) else { return };
        let (zeros, order) = if view.zeros.is_some() { more.split_at(1) } else { more.split_at(0) };
        let scale = scales(view.scale.1.dtype, scale, floats);
        let middle = (1u32 << (view.bits - 1)) as f32;
        let first = rows.start * view.bits / 32;
        let line = (view.cols * view.bits as usize).div_ceil(32) * 4;
        let lines = codes.chunks_exact(line).zip(scale.chunks_exact(view.groups));
        for ((row, out), (codes, scale)) in rows.zip(out.chunks_exact_mut(view.cols)).zip(lines) {
            let zero = |group: usize| {
                let Some(zeros) = zeros.first() else { return middle };
                let word = ((row * view.bits / 32 - first) as usize * view.groups + group) * 4;
                code(&zeros[word..word + 4], (row * view.bits % 32) as usize, view.bits)
            };
            let Some(order) = order.first() else {
                for (group, out) in out.chunks_mut(view.group).enumerate() {
                    integers(codes, view.bits, group * view.group, zero(group), scale[group], out);
                }
                continue;
            };
            for (column, (out, group)) in out.iter_mut().zip(view.groups_of(order)).enumerate() {
                let value = code(codes, column * view.bits as usize, view.bits);
                *out = scale.get(group).map_or(f32::NAN, |scale| (value - zero(group)) * scale);
            }
        }
    }

    fn portion(&self, form: StoredForm<'_>, rows: Range<u64>) -> Option<(Vec<Source>, Vec<u64>)> {
        let view = View::of(form).ok()?;
        let settings = vec![rows.end - rows.start, view.cols as u64, view.bits, view.group as u64];
        Some((portion(&view.lanes(), &rows, view.rows)?, settings))
    }
}

impl Encode for Packed {
    fn rule(&self, form: StoredForm<'_>, _: &Quantisation) -> Result<Rule, String> {
        match named(form, ".weight_zero_point") {
            Some((_, zeros)) => Err(format!("it has zero points ({})", zeros.name)),
            None => Ok(Rule::default()),
        }
    }

    fn knows(&self, rule: Rule) -> bool {
        rule == Rule::default()
    }

    fn unit(&self, _: StoredForm<'_>) -> u64 {
        1
    }

    fn encode(&self, form: StoredForm<'_>, _: Rule, Units { values, codes, scales, .. }: Units<'_>) {
        let Ok(view) = View::of(form) else { return };
        let (Some(float), None) = (Float::of(view.scale.1.dtype), view.zeros) else { return };
        let mut columns = vec![Vec::new(); view.groups];
        match values.beside.first() {
            None => (0..view.cols).for_each(|column| columns[column / view.group].push(column)),
            Some(order) => {
                let known = view.groups_of(order).enumerate().filter(|(_, group)| *group < view.groups);
                known.for_each(|(column, group)| columns[group].push(column));
            }
        }
        let (most, middle) = (((1u32 << view.bits) - 1) as f32 / 2.0, (1u32 << (view.bits - 1)) as f32);
        let (line, size) = ((view.cols * view.bits as usize).div_ceil(32) * 4, float.bytes() as usize);
        let rows = values.before.chunks_exact(view.cols).zip(values.after.chunks_exact(view.cols));
        let stored = codes.chunks_exact_mut(line).zip(scales.chunks_exact_mut(view.groups * size));
        for ((before, after), (codes, scales)) in rows.zip(stored) {
            for (columns, scale) in columns.iter().zip(scales.chunks_exact_mut(size)) {
                if columns.iter().all(|column| before[*column] == after[*column]) {
                    continue;
                }
                let scale = to_scale(float, largest(columns.iter().map(|column| after[*column])) / most, scale);
                for column in columns {
                    let code = (after[*column] / scale).clamp(-middle, middle - 1.0).round_ties_even() + middle;
                    put_code(codes, column * view.bits as usize, view.bits, code as u8);
                }
            }
        }
    }

    fn one(&self, form: StoredForm<'_>) -> u8 {
        // The middle and 1, in each code of the byte.
        match form.settings.get(2) {
            Some(2) => 0xFF,
            Some(8) => 0x81,
            _ => 0x99,
        }
    }

    /// The largest value lies half a scale above the largest code, and the scale may have been rounded down, in bf16 by a part of 256.
    fn half_step(&self, scales: f32) -> f32 {
        0.5 + (scales.abs() + 0.5) / 256.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{decoded, said, tensor, words};
    use super::*;

    /// Codes of 4 bits of 8 outputs and 8 inputs in groups of 4: the code of an input is output + input.
    fn codes(rows: u64) -> Vec<u8> {
        let word = |row: u64| (0..8u64).fold(0u32, |word, column| word | ((row + column) as u32 & 15) << (4 * column));
        (0..rows).flat_map(|row| word(row).to_le_bytes()).collect()
    }

    #[test]
    fn codes_less_the_middle_times_the_scale_of_their_group() {
        let tensors = [tensor("m.weight_packed", Dtype::I32, &[8, 1]), tensor("m.weight_scale", Dtype::F32, &[8, 2])];
        let form = StoredForm { tensors: &tensors, settings: &[8, 8, 4, 4] };
        assert_eq!(Packed.dims(form).unwrap(), [8, 8]);
        let scale: Vec<u8> = (0..16).flat_map(|i| (i as f32 / 2.0).to_le_bytes()).collect();
        let all = decoded(&Packed, form, &[&codes(8), &scale], 0..8);
        assert_eq!(all[..8], [0.0, -0.0, -0.0, -0.0, -2.0, -1.5, -1.0, -0.5]);
        assert_eq!(all[56..], [-7.0, 0.0, 7.0, 14.0, 22.5, 30.0, 37.5, 45.0], "codes 7 to 14");
        assert_eq!(decoded(&Packed, form, &[&codes(8), &scale], 3..7), all[24..56]);
    }

    #[test]
    fn zero_points_lie_along_the_outputs_and_the_order_names_groups() {
        let tensors = [
            tensor("m.weight_packed", Dtype::I32, &[9, 1]),
            tensor("m.weight_scale", Dtype::F32, &[9, 2]),
            tensor("m.weight_zero_point", Dtype::I32, &[2, 2]),
            tensor("m.weight_g_idx", Dtype::I32, &[8]),
        ];
        let form = StoredForm { tensors: &tensors, settings: &[9, 8, 4, 4] };
        assert_eq!(Packed.dims(form).unwrap(), [9, 8]);
        let scale: Vec<u8> = (0..18).flat_map(|i| if i % 2 == 0 { 1.0f32 } else { 100.0 }.to_le_bytes()).collect();
        // Zero points of output o: o in group 0, 15 - o in group 1; output 8 is in the second words.
        let zeros = words(&[0x7654_3210, 0x89AB_CDEF, 8, 7]);
        let order = words(&[1, 0, 1, 0, 0, 0, 1, u32::MAX]);
        let bytes: [&[u8]; 4] = [&codes(9), &scale, &zeros, &order];
        let all = decoded(&Packed, form, &bytes, 0..9);
        // Output 2: codes 2 to 9, zero points 2 and 13. The last input has no group and is in the second by its place.
        assert_eq!(all[16..24], [-1100.0, 1.0, -900.0, 3.0, 4.0, 5.0, -500.0, -400.0]);
        assert_eq!(all[64..72], [100.0, 1.0, 300.0, 3.0, 4.0, 5.0, 700.0, 800.0], "codes 8 to 15");
        assert_eq!(decoded(&Packed, form, &bytes, 7..9), all[56..]);
        let (own, settings) = Packed.portion(form, 8..9).unwrap();
        assert_eq!(Packed.dims(StoredForm { tensors: &own, settings: &settings }).unwrap(), [1, 8]);
        assert!(Packed.portion(form, 4..9).is_none(), "zero points of other rows lie in the same words");
    }

    #[test]
    fn eight_bits_and_two_bits() {
        let of = |bits: u64, codes: &[u8]| {
            let tensors =
                [tensor("m.weight_packed", Dtype::I32, &[1, 1]), tensor("m.weight_scale", Dtype::F32, &[1, 1])];
            let cols = 32 / bits - 1;
            let settings = [1, cols, bits, cols];
            let form = StoredForm { tensors: &tensors, settings: &settings };
            Packed.dims(form).unwrap();
            decoded(&Packed, form, &[codes, &2.0f32.to_le_bytes()], 0..1)
        };
        assert_eq!(of(8, &[128, 0, 255, 9]), [0.0, -256.0, 254.0]);
        assert_eq!(of(2, &[0b1110_0100, 0, 0, 0])[..5], [-4.0, -2.0, 0.0, 2.0, -4.0]);
        assert_eq!(of(4, &[0x8F, 0, 0, 0x10])[..2], [14.0, 0.0]);
    }

    #[test]
    fn config_and_tensors_have_to_agree() {
        let tensors = || {
            vec![
                tensor("m.weight_packed", Dtype::I32, &[8, 8]),
                tensor("m.weight_scale", Dtype::BF16, &[8, 2]),
                tensor("m.weight_shape", Dtype::I64, &[2]),
            ]
        };
        let shape = |sides: [i64; 2]| [("m.weight_shape", sides.map(i64::to_le_bytes).concat())];
        let group = |bits: u64, group: u64| {
            let weights = serde_json::json!({"num_bits": bits, "group_size": group, "symmetric": true});
            let groups = serde_json::json!({"a": {"weights": weights, "format": "pack-quantized"}});
            serde_json::json!({"quant_method": "compressed-tensors", "config_groups": groups})
        };
        let told = |held, sides| said(tensors(), held, &shape(sides));
        let fine = told(group(4, 32), [8, 64]);
        assert_eq!((fine.dims.clone(), fine.stored.start().unwrap().dims().to_vec()), (vec![8, 64], vec![8, 64]));
        for (held, sides, why) in [
            (
                group(4, 32),
                [8, 32],
                "names 4 bits, and the shape of m.weight_packed (I32 [8, 8]) is that of codes of 8 bits",
            ),
            (group(4, 16), [8, 64], "names groups of 16 columns, and m.weight_scale (BF16 [8, 2]) has 2 for 64"),
            (group(4, 32), [-8, 64], "m.weight_shape holds [-8, 64]"),
            (
                serde_json::json!({"quant_method": "gptq"}),
                [8, 64],
                "the method gptq, and m.weight_packed is compressed-tensors's",
            ),
            (serde_json::json!(null), [8, 64], "config.json has no quantization_config"),
        ] {
            let refused = told(held, sides).stored.start().unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let mut with_zeros = tensors();
        with_zeros.push(tensor("m.weight_zero_point", Dtype::I32, &[1, 2]));
        let refused = said(with_zeros, group(4, 32), &shape([8, 64])).stored.start().unwrap_err();
        assert!(refused.contains("says that weights are symmetric, and m.weight_packed has zero points"), "{refused}");
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let tensors = [tensor("m.weight_packed", Dtype::I32, &[8, 1]), tensor("m.weight_scale", Dtype::F32, &[8, 2])];
        for settings in
            [&[8, 8, 4, 8][..], &[8, 8, 8, 4], &[8, 8, 3, 4], &[8, 8, 4, 0], &[8, 8, 4], &[1 << 62, 8, 4, 4]]
        {
            assert!(Packed.dims(StoredForm { tensors: &tensors, settings }).is_err(), "{settings:?}");
        }
    }
}
