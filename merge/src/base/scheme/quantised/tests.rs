//! Which tensors make up a quantised parameter.

mod encoding;

use std::ops::Range;

use crate::base::parameter::Parameter;
use crate::base::quantisation::Quantisation;
use crate::base::scheme::claim::{Layout, StoredForm, Stretch};
use crate::base::scheme::parameters;
use crate::inventory::{ObjectId, Shard, SmallTensors, Source};
use crate::tensor::float::{self, Float};
use crate::tensor::{Dtype, matrix};

pub(super) fn tensor(name: &str, dtype: Dtype, shape: &[u64]) -> Source {
    Source { name: name.into(), object: ObjectId(0), offset: 0, dtype, shape: shape.into() }
}

/// The bytes of words.
pub(super) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The values of rows of a parameter with these bytes: what `ranges` asks for, decoded.
pub(super) fn decoded(layout: &dyn Layout, form: StoredForm<'_>, bytes: &[&[u8]], rows: Range<u64>) -> Vec<f32> {
    let (_, cols) = matrix(&layout.dims(form).unwrap());
    // The bytes are those of the tensors that have any.
    let ranges = layout.ranges(form, rows.clone());
    let held: Vec<usize> = layout.ranges(form, 0..1).iter().map(|stretch| stretch.tensor).collect();
    let of = |stretch: &Stretch| {
        let at = held.iter().position(|tensor| *tensor == stretch.tensor).unwrap();
        &bytes[at][stretch.bytes.start as usize..stretch.bytes.end as usize]
    };
    let read: Vec<&[u8]> = ranges.iter().map(of).collect();
    let mut out = vec![f32::NAN; ((rows.end - rows.start) * cols) as usize];
    let floats = |float: Float, bytes: &[u8], out: &mut [f32]| float::decode(float.dtype(), bytes, out);
    layout.decode(form, rows, &read, &floats, &mut out);
    out
}

/// The only parameter of a checkpoint with this `quantization_config` and these small tensors.
pub(super) fn said(tensors: Vec<Source>, held: serde_json::Value, small: &[(&str, Vec<u8>)]) -> Parameter {
    let shard = Shard { name: "f".into(), metadata: Default::default(), tensors };
    let quantisation = Quantisation::of(&serde_json::json!({"quantization_config": held}));
    let small = small.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
    let [one] = <[_; 1]>::try_from(parameters(&[shard], &quantisation, &small)).unwrap();
    one
}

/// Name, scheme, shape and number of tensors.
type Found = (String, &'static str, Vec<u64>, usize);
/// Name, dtype and shape.
type Told = (&'static str, Dtype, &'static [u64]);

/// The parameters of a checkpoint.
fn found(tensors: Vec<Source>) -> Vec<Found> {
    let shard = Shard { name: "f".into(), metadata: Default::default(), tensors };
    let all = parameters(&[shard], &Quantisation::default(), &SmallTensors::new()).into_iter();
    all.map(|p| (p.name, p.stored.scheme.name(), p.dims, p.stored.tensors.len())).collect()
}

#[test]
fn each_form_is_one_parameter_with_all_its_tensors() {
    use Dtype::{BF16, F8_E4M3, F16, F32, I8, I32, I64, U8};
    let cases: [(&str, &[Told], &[u64]); 9] = [
        ("fp8", &[("weight", F8_E4M3, &[256, 384]), ("weight_scale_inv", F32, &[2, 3])], &[256, 384]),
        ("fp8", &[("weight", F8_E4M3, &[8, 4]), ("input_scale", F32, &[]), ("weight_scale", F32, &[])], &[8, 4]),
        (
            "nvfp4",
            &[("weight", U8, &[8, 16]), ("weight_scale", F8_E4M3, &[8, 2]), ("weight_scale_2", F32, &[])],
            &[8, 32],
        ),
        (
            "nvfp4",
            &[("weight_packed", U8, &[8, 16]), ("weight_scale", F8_E4M3, &[8, 2]), ("weight_global_scale", F32, &[1])],
            &[8, 32],
        ),
        (
            "compressed-tensors pack-quantized",
            &[("weight_packed", I32, &[8, 4]), ("weight_scale", BF16, &[8, 1]), ("weight_shape", I64, &[2])],
            &[8, 32],
        ),
        (
            "gptq",
            &[("g_idx", I32, &[32]), ("qweight", I32, &[4, 8]), ("qzeros", I32, &[1, 1]), ("scales", F16, &[1, 8])],
            &[8, 32],
        ),
        ("awq", &[("qweight", I32, &[32, 1]), ("qzeros", I32, &[1, 1]), ("scales", F16, &[1, 8])], &[8, 32]),
        (
            "bitsandbytes",
            &[
                ("weight", U8, &[128, 1]),
                ("weight.absmax", F32, &[4]),
                ("weight.quant_map", F32, &[16]),
                ("weight.quant_state.bitsandbytes__nf4", U8, &[80]),
            ],
            &[128, 1],
        ),
        ("bitsandbytes int8", &[("SCB", F32, &[8]), ("weight", I8, &[8, 32]), ("weight_format", U8, &[])], &[8, 32]),
    ];
    for (scheme, tensors, dims) in cases {
        let own = tensors.iter().map(|(name, dtype, shape)| tensor(&format!("m.q_proj.{name}"), *dtype, shape));
        let all = own.chain([tensor("m.norm.weight", BF16, &[4])]).collect();
        let expected = [
            ("m.q_proj.weight".to_owned(), scheme, dims.to_vec(), tensors.len()),
            ("m.norm.weight".to_owned(), "plain", vec![4], 1),
        ];
        assert_eq!(found(all), expected, "{scheme}");
    }
}

#[test]
fn stacked_experts_in_mxfp4_are_the_parameter_of_the_model() {
    let all = vec![
        tensor("m.experts.gate_up_proj_bias", Dtype::BF16, &[4, 64]),
        tensor("m.experts.gate_up_proj_blocks", Dtype::U8, &[4, 64, 2, 16]),
        tensor("m.experts.gate_up_proj_scales", Dtype::U8, &[4, 64, 2]),
    ];
    let expected = [
        ("m.experts.gate_up_proj_bias".to_owned(), "plain", vec![4, 64], 1),
        ("m.experts.gate_up_proj".to_owned(), "mxfp4", vec![4, 64, 64], 2),
    ];
    assert_eq!(found(all), expected);
}

#[test]
fn codes_without_their_scales_are_bytes() {
    let all = vec![
        tensor("a.weight", Dtype::F8_E4M3, &[8, 4]),
        tensor("b.qweight", Dtype::I32, &[8, 4]),
        tensor("c_blocks", Dtype::U8, &[1, 8, 2, 16]),
    ];
    assert!(found(all).iter().all(|(_, scheme, _, tensors)| *scheme == "opaque" && *tensors == 1));
}

#[test]
fn scales_of_the_kv_cache_are_no_part_of_a_weight() {
    let all = vec![
        tensor("m.k_proj.k_scale", Dtype::F32, &[]),
        tensor("m.k_proj.weight", Dtype::F8_E4M3, &[8, 4]),
        tensor("m.k_proj.weight_scale", Dtype::F32, &[]),
    ];
    let names: Vec<_> = found(all).into_iter().map(|(name, scheme, ..)| (name, scheme)).collect();
    assert_eq!(names, [("m.k_proj.k_scale".to_owned(), "plain"), ("m.k_proj.weight".to_owned(), "fp8")]);
}

#[test]
fn codes_with_zero_points_travel_and_are_not_decoded() {
    let all = vec![
        tensor("m.q_proj.weight", Dtype::F8_E4M3, &[8, 4]),
        tensor("m.q_proj.weight_scale", Dtype::F32, &[8, 1]),
        tensor("m.q_proj.weight_zero_point", Dtype::F8_E4M3, &[8, 1]),
    ];
    let shard = Shard { name: "f".into(), metadata: Default::default(), tensors: all };
    let [one] = <[_; 1]>::try_from(parameters(&[shard], &Quantisation::default(), &SmallTensors::new())).unwrap();
    assert_eq!(one.stored.tensors.len(), 3);
    assert!(one.stored.start().unwrap_err().contains("does not fit"));
}

#[test]
fn codes_beside_a_tensor_of_the_weights_own_name_are_bytes() {
    let all = vec![
        tensor("m.q_proj.weight", Dtype::BF16, &[8, 32]),
        tensor("m.q_proj.weight_packed", Dtype::I32, &[8, 4]),
        tensor("m.q_proj.weight_scale", Dtype::BF16, &[8, 1]),
    ];
    let schemes: Vec<_> = found(all).into_iter().map(|(_, scheme, ..)| scheme).collect();
    assert_eq!(schemes, ["plain", "opaque", "plain"]);
}
