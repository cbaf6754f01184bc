//! Quantised bases.

use super::*;
use crate::spec::Quantised;

const CONFIG: &str = "fp8";

/// A base of two layers of which the first is FP8 in blocks of 2 x 3; its scales stand behind all weights.
fn case() -> Case {
    let config = json!({
        "model_type": LLAMA,
        "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": CONFIG, "weight_block_size": [2, 3]},
    });
    let case = Case::new(
        config,
        &[
            ("m.0.q_proj.weight", &[6, 6]),
            ("m.1.q_proj.weight", &[6, 6]),
            ("norm.weight", &[6]),
            ("m.0.q_proj.weight_scale_inv", &[3, 2]),
        ],
    );
    Case { adjust: coded, ..case }
}

fn coded(_: &mut MergeSpec, inventory: &mut Inventory) {
    let tensors = &mut inventory.base.shards[0].tensors;
    tensors[0].dtype = Dtype::F8_E4M3;
    tensors[1].dtype = Dtype::BF16;
    tensors[2].dtype = Dtype::BF16;
}

fn dequantised(spec: &mut MergeSpec, inventory: &mut Inventory) {
    coded(spec, inventory);
    spec.quantised = Quantised::Dequantise;
}

fn layer(n: usize) -> [(&'static str, &'static [u64]); 2] {
    let names = [
        ["base_model.model.m.0.q_proj.lora_A.weight", "base_model.model.m.0.q_proj.lora_B.weight"],
        ["base_model.model.m.1.q_proj.lora_A.weight", "base_model.model.m.1.q_proj.lora_B.weight"],
    ][n];
    [(names[0], &[2, 6]), (names[1], &[6, 2])]
}

/// Name, dtype and whether it is copied, of each tensor of the output.
fn output(case: &Case) -> Vec<(String, Dtype, bool)> {
    let (plan, _) = case.plan().unwrap();
    let tensors = plan.output.files.iter().flat_map(|f| &f.tensors);
    tensors.map(|t| (t.name.clone(), t.dtype, matches!(t.recipe, Recipe::Copy(_)))).collect()
}

#[test]
fn what_is_quantised_and_not_touched_is_copied_in_the_order_of_the_base() {
    let case = case().adapter(json!({}), &layer(1));
    let expected = [
        ("m.0.q_proj.weight", Dtype::F8_E4M3, true),
        ("m.1.q_proj.weight", Dtype::BF16, false),
        ("norm.weight", Dtype::BF16, true),
        ("m.0.q_proj.weight_scale_inv", Dtype::F32, true),
    ];
    assert_eq!(output(&case), expected.map(|(name, dtype, copied)| (name.to_owned(), dtype, copied)));
    assert_eq!(config_of(&case)["quantization_config"]["quant_method"], CONFIG);
    let notes = case.plan().unwrap().1.notes;
    assert!(notes.iter().any(|n| n.contains("1 parameter as fp8: what no adapter changes is copied")), "{notes:?}");
}

#[test]
fn a_dequantised_model_has_no_scales_and_no_quantization_config() {
    let case = Case { adjust: dequantised, ..case().adapter(json!({}), &layer(0)) };
    let expected = [
        ("m.0.q_proj.weight", Dtype::BF16, false),
        ("m.1.q_proj.weight", Dtype::BF16, true),
        ("norm.weight", Dtype::BF16, true),
    ];
    assert_eq!(output(&case), expected.map(|(name, dtype, copied)| (name.to_owned(), dtype, copied)));
    assert_eq!(config_of(&case).get("quantization_config"), None);
    assert_eq!(case.ops("m.0.q_proj.weight").len(), 1);
    let untouched = Case { adjust: dequantised, ..self::case().adapter(json!({}), &layer(1)) };
    assert_eq!(output(&untouched)[0], ("m.0.q_proj.weight".to_owned(), Dtype::BF16, false));
    assert!(untouched.ops("m.0.q_proj.weight").is_empty());
}

#[test]
fn a_form_that_is_not_known_travels_and_nothing_else_is_asked_of_it() {
    let config = json!({"model_type": LLAMA, "quantization_config": {"quant_method": "new"}});
    let base = Case::new(config, &[("m.0.q_proj.codes", &[6, 3]), ("m.1.q_proj.weight", &[6, 6])]);
    let case = base.adapter(json!({}), &layer(1));
    let with = |adjust| Case {
        config: case.config.clone(),
        base: case.base.clone(),
        adapters: case.adapters.clone(),
        weights: case.weights.clone(),
        dora_norm: case.dora_norm,
        adjust,
    };
    let codes = |_: &mut MergeSpec, inventory: &mut Inventory| inventory.base.shards[0].tensors[0].dtype = Dtype::U8;
    assert!(output(&with(codes))[0].2);
    let converted = with(|spec, inventory| {
        inventory.base.shards[0].tensors[0].dtype = Dtype::U8;
        spec.dtype = "bf16".parse().unwrap();
    });
    let (kind, text) = converted.refusal();
    assert!(kind == Kind::Unsupported && text.contains("m.0.q_proj.codes") && text.contains("--dtype"), "{text}");
    let values = with(|spec, inventory| {
        inventory.base.shards[0].tensors[0].dtype = Dtype::U8;
        spec.quantised = Quantised::Dequantise;
    });
    let (kind, text) = values.refusal();
    assert!(kind == Kind::Unsupported && text.contains("new") && text.contains("cannot be dequantised"), "{text}");
}

#[test]
fn a_row_of_work_of_stacked_matrices_is_a_row_of_one_of_them() {
    let config = json!({"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}});
    let experts: [(&'static str, &[u64]); 3] =
        [("e.down_proj_blocks", &[4, 6, 1, 16]), ("e.down_proj_scales", &[4, 6, 1]), ("m.0.q_proj.weight", &[6, 6])];
    let case = Case::new(config, &experts).adapter(json!({}), &layer(0));
    let case = Case {
        adjust: |spec, inventory| {
            inventory.base.shards[0].tensors[..2].iter_mut().for_each(|tensor| tensor.dtype = Dtype::U8);
            spec.quantised = Quantised::Dequantise;
        },
        ..case
    };
    let (plan, _) = case.plan().unwrap();
    let placed: Vec<_> = plan.output.files[0].tensors.iter().filter(|t| t.name == "e.down_proj").collect();
    let [one] = placed.as_slice() else { panic!("{placed:?}") };
    // [4 experts, 32 inputs, 6 outputs] is a matrix of 128 rows.
    assert_eq!((one.shape.clone(), one.portion.is_some()), (vec![128, 6], true));
}

/// A bf16 model with codes of an unknown form, whose F32 scales are most of its floats.
fn unknown(config: Value, converts: bool) -> Case {
    let base: [(&'static str, &[u64]); 3] =
        [("m.0.q_proj.weight", &[6, 3]), ("m.0.q_proj.scales", &[60, 60]), ("m.1.q_proj.weight", &[6, 6])];
    fn adjust(_: &mut MergeSpec, inventory: &mut Inventory) {
        let tensors = &mut inventory.base.shards[0].tensors;
        tensors[0].dtype = Dtype::I8;
        tensors[2].dtype = Dtype::BF16;
    }
    fn converted(spec: &mut MergeSpec, inventory: &mut Inventory) {
        adjust(spec, inventory);
        spec.dtype = "f16".parse().unwrap();
    }
    let case = Case::new(config, &base).adapter(json!({}), &layer(1));
    Case { adjust: if converts { converted } else { adjust }, ..case }
}

#[test]
fn what_may_be_scales_does_not_decide_the_dtype_that_the_configuration_names() {
    for method in [json!({"quant_method": "new"}), Value::Null] {
        let config = json!({"model_type": LLAMA, "torch_dtype": "bfloat16", "quantization_config": method});
        assert_eq!(config_of(&unknown(config, false))["torch_dtype"], "bfloat16");
    }
}

#[test]
fn codes_under_the_name_of_a_weight_are_noticed_without_a_quantization_config() {
    let (kind, text) = unknown(json!({"model_type": LLAMA}), true).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(text.contains("m.0.q_proj.weight") && text.contains("does not name"), "{text}");
}

#[test]
fn an_adapter_on_codes_of_an_unknown_form_hears_of_them() {
    let config = json!({"model_type": LLAMA, "quantization_config": {"quant_method": "new"}});
    let base = Case::new(config, &[("m.0.q_proj.codes", &[6, 3]), ("m.1.q_proj.weight", &[6, 6])]);
    let (kind, text) = base.adapter(json!({}), &layer(0)).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(text.contains("m.0.q_proj.codes") && text.contains("quantised"), "{text}");
}

#[test]
fn scales_that_stay_and_dtypes_that_differ_are_told() {
    let config = json!({"model_type": LLAMA, "torch_dtype": "float16", "quantization_config": {"quant_method": CONFIG, "weight_block_size": [2, 3]}});
    let mut case = Case { adjust: dequantised, config, ..case().adapter(json!({}), &layer(1)) };
    case.base.push(("m.0.k_scale", vec![1]));
    let notes = case.plan().unwrap().1.notes;
    assert!(notes.iter().any(|note| note.contains("m.0.k_scale")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("F16") && note.contains("BF16")), "{notes:?}");
    assert!(output(&case).iter().any(|(name, ..)| name == "m.0.k_scale"));
}

#[test]
fn dequantising_what_is_not_quantised_is_told() {
    let case = Case::new(json!({"model_type": LLAMA}), &[("m.1.q_proj.weight", &[6, 6])]).adapter(json!({}), &layer(1));
    let case = Case { adjust: |spec, _| spec.quantised = Quantised::Dequantise, ..case };
    let notes = case.plan().unwrap().1.notes;
    assert!(notes.iter().any(|note| note.contains("the base is not quantised")), "{notes:?}");
}
