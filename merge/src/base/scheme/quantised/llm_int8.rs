//! LLM.int8 of bitsandbytes: bytes with a scale for each row.
//!
//! `X.weight` is I8 [out, in], `X.SCB` F32 [out] the largest value of each row, and `X.weight_format` a byte, 0 where rows lie as they are.
//! value = code x SCB x (1 / 127), in fp32 and this order: bitsandbytes' `int8_vectorwise_dequant`.

use std::ops::Range;

use super::bitsandbytes::NOT_ENCODED;
use super::companions::{beside, extents, needed, shown};
use super::lanes::{Lane, portion};
use super::told;
use super::values::scales;
use crate::base::scheme::claim::{Claim, Encode, Floats, Layout, Scheme, StoredForm, Stretch, Tensors, Told};
use crate::inventory::Source;
use crate::tensor::Dtype;

/// What bitsandbytes multiplies by instead of a division by 127.
const STEP: f32 = 0.007_874_016;

/// The scheme, and its layout. There are no settings.
#[derive(Debug)]
pub struct LlmInt8;

impl Scheme for LlmInt8 {
    fn name(&self) -> &'static str {
        "bitsandbytes int8"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        let module = codes.name.strip_suffix(".weight").filter(|_| codes.dtype == Dtype::I8)?;
        let places = beside(at, module, tensors, &[".SCB"], &[".weight_format"])?;
        let settings = settings(&places, tensors);
        Some(Claim { name: codes.name.clone(), dims: codes.shape.clone(), tensors: places, settings })
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        Some(&LlmInt8)
    }

    fn encode(&self) -> Result<&'static dyn Encode, &'static str> {
        Err(NOT_ENCODED)
    }

    fn small(&self) -> &'static [&'static str] {
        &[".weight_format"]
    }
}

fn settings(places: &[usize], tensors: &Tensors<'_>) -> Told {
    told::method(tensors.quantisation, &["bitsandbytes"], tensors.at(places[0]))?;
    let Some(format) = places.get(2).map(|at| tensors.at(*at)) else { return Ok(Vec::new()) };
    match tensors.small.get(&format.name).map(Vec::as_slice) {
        Some([0]) => Ok(Vec::new()),
        Some(other) => Err(format!("{} is {other:?}: rows that do not lie as they are", format.name)),
        None => Err(format!("{} was not read", format.name)),
    }
}

/// The rows and columns, and what rows use.
fn view(form: StoredForm<'_>) -> Result<([u64; 2], [Lane<'_>; 2]), String> {
    let (codes, scale) = (needed(form, ".weight")?, needed(form, ".SCB")?);
    let [rows, cols] = *codes.1.shape.as_slice() else { return Err(format!("{} is no matrix", shown(codes.1))) };
    extents(codes.1, rows, cols)?;
    if codes.1.dtype != Dtype::I8 || scale.1.dtype != Dtype::F32 || scale.1.shape != [rows] {
        return Err(format!("{} does not fit {}", shown(scale.1), shown(codes.1)));
    }
    Ok(([rows, cols], [Lane::rows(codes, rows), Lane::rows(scale, rows)]))
}

impl Layout for LlmInt8 {
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String> {
        view(form).map(|(dims, _)| dims.to_vec())
    }

    fn ranges(&self, form: StoredForm<'_>, rows: Range<u64>) -> Vec<Stretch> {
        view(form).map(|(_, lanes)| lanes.iter().map(|lane| lane.stretch(&rows)).collect()).unwrap_or_default()
    }

    fn decode(&self, form: StoredForm<'_>, _: Range<u64>, bytes: &[&[u8]], floats: Floats<'_>, out: &mut [f32]) {
        let (Ok(([_, cols], _)), [codes, scale]) = (view(form), bytes) else { return };
        let rows = codes.chunks_exact(cols as usize).zip(out.chunks_exact_mut(cols as usize));
        for ((codes, out), scale) in rows.zip(scales(Dtype::F32, scale, floats)) {
            for (code, out) in codes.iter().zip(out) {
                *out = f32::from(*code as i8) * scale * STEP;
            }
        }
    }

    fn portion(&self, form: StoredForm<'_>, rows: Range<u64>) -> Option<(Vec<Source>, Vec<u64>)> {
        let ([height, _], lanes) = view(form).ok()?;
        Some((portion(&lanes, &rows, height)?, Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{decoded, said, tensor};
    use super::*;

    #[test]
    fn codes_times_the_largest_of_their_row() {
        let tensors = [tensor("m.weight", Dtype::I8, &[2, 3]), tensor("m.SCB", Dtype::F32, &[2])];
        let form = StoredForm { tensors: &tensors, settings: &[] };
        assert_eq!(LlmInt8.dims(form).unwrap(), [2, 3]);
        let scale: Vec<u8> = [127.0f32, 0.3].iter().flat_map(|v| v.to_le_bytes()).collect();
        let bytes: [&[u8]; 2] = [&[1, 0x81, 0, 127, 100, 0xFF], &scale];
        let all = decoded(&LlmInt8, form, &bytes, 0..2);
        assert_eq!(all[..3], [127.0 * STEP, -127.0 * 127.0 * STEP, 0.0]);
        assert!((all[0] - 1.0).abs() < 1e-6);
        assert_eq!(all[4], 100.0f32 * 0.3 * STEP);
        assert_eq!(decoded(&LlmInt8, form, &bytes, 1..2), all[3..]);
        let wrong = [tensor("m.weight", Dtype::I8, &[2, 3]), tensor("m.SCB", Dtype::F32, &[3])];
        let refused = LlmInt8.dims(StoredForm { tensors: &wrong, settings: &[] }).unwrap_err();
        assert!(refused.contains("m.SCB (F32 [3]) does not fit m.weight (I8 [2, 3])"), "{refused}");
    }

    #[test]
    fn rows_in_another_order_are_refused() {
        let tensors = [
            tensor("m.weight", Dtype::I8, &[2, 3]),
            tensor("m.SCB", Dtype::F32, &[2]),
            tensor("m.weight_format", Dtype::U8, &[]),
        ];
        let told = |format: u8| {
            said(tensors.to_vec(), json!({"load_in_8bit": true}), &[("m.weight_format", vec![format])]).stored.start()
        };
        assert_eq!(told(0).unwrap().dims(), [2, 3]);
        assert!(told(2).unwrap_err().contains("m.weight_format is [2]"));
    }
}
