//! What is changed leaves the quantised set of a model that stays quantised.

use super::*;
use crate::inventory::Sidecar;
use crate::output::SmallFile;
use crate::spec::Quantised;

/// FP8 is what has a scale, MXFP4 what has blocks; all other weights are BF16.
fn coded(_: &mut MergeSpec, inventory: &mut Inventory) {
    let tensors = &mut inventory.base.shards[0].tensors;
    let names: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
    for tensor in tensors {
        tensor.dtype = match &tensor.name {
            name if names.contains(&format!("{name}_scale")) => Dtype::F8_E4M3,
            name if name.ends_with("_blocks") || name.ends_with("_scales") => Dtype::U8,
            name if name.ends_with("_scale") => Dtype::F32,
            _ => Dtype::BF16,
        };
    }
}

/// Weights [6, 6] with a scale for each row, behind a plain embedding.
fn base(config: Value, modules: &[&'static str]) -> Case {
    let scale = |module: &&str| -> &'static str { format!("{module}.weight_scale").leak() };
    let weight = |module: &&str| -> &'static str { format!("{module}.weight").leak() };
    let each = |module| [(weight(module), &[6u64, 6][..]), (scale(module), &[6, 1][..])];
    let plain = [("model.embed_tokens.weight", &[10u64, 6][..])];
    let all: Vec<_> = plain.into_iter().chain(modules.iter().flat_map(each)).collect();
    Case { adjust: coded, ..Case::new(config, &all) }
}

fn on(case: Case, modules: &[&str]) -> Case {
    let part =
        |module: &str, part: &str| -> &'static str { format!("base_model.model.{module}.lora_{part}.weight").leak() };
    let each = |module: &&str| [(part(module, "A"), &[2u64, 6][..]), (part(module, "B"), &[6, 2][..])];
    let tensors: Vec<_> = modules.iter().flat_map(each).collect();
    case.adapter(json!({}), &tensors)
}

fn config(method: &str, class: &str) -> Value {
    let held = json!({"quant_method": method});
    json!({"model_type": LLAMA, "architectures": [class], "torch_dtype": "bfloat16", "quantization_config": held})
}

const LAYER: [&str; 6] = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.0.self_attn.k_proj",
    "model.layers.0.self_attn.v_proj",
    "model.layers.0.self_attn.o_proj",
    "model.layers.0.mlp.up_proj",
    "model.layers.1.self_attn.q_proj",
];

/// Name, dtype and whether it is copied, of each tensor of the output.
fn output(case: &Case) -> BTreeMap<String, (Dtype, bool)> {
    let (plan, _) = case.plan().unwrap();
    let tensors = plan.output.files.iter().flat_map(|f| &f.tensors);
    tensors.map(|t| (t.name.clone(), (t.dtype, matches!(t.recipe, Recipe::Copy(_))))).collect()
}

fn leaves(case: &Case) -> Vec<(String, Option<String>, u64, u64)> {
    let left = case.plan().unwrap().1.left;
    left.into_iter().map(|l| (l.name, l.with, l.stored, l.written)).collect()
}

#[test]
fn a_changed_weight_is_written_as_values_and_named_as_an_exception() {
    let case = on(base(config("fp8", "LlamaForCausalLM"), &LAYER), &["model.layers.0.self_attn.o_proj"]);
    let output = output(&case);
    let weight = |module: &str| output.get(&format!("{module}.weight")).copied();
    let scale = |module: &str| output.get(&format!("{module}.weight_scale")).copied();
    for module in LAYER {
        let touched = module == "model.layers.0.self_attn.o_proj";
        let (expected, beside) = match touched {
            true => ((Dtype::BF16, false), None),
            false => ((Dtype::F8_E4M3, true), Some((Dtype::F32, true))),
        };
        assert_eq!((weight(module), scale(module)), (Some(expected), beside), "{module}");
    }
    let held = &config_of(&case)["quantization_config"];
    // The list begins with what loaders leave out while there is none.
    let listed = json!(["lm_head", "model.layers.0.self_attn.o_proj"]);
    assert_eq!(held, &json!({"quant_method": "fp8", "modules_to_not_convert": listed}));
    assert_eq!(leaves(&case), [("model.layers.0.self_attn.o_proj.weight".to_owned(), None, 36 + 24, 72)]);
    let report = case.plan().unwrap().1;
    assert_eq!((report.tensors_changed, report.tensors_dequantised, report.tensors_copied), (1, 0, 6));
}

#[test]
fn what_engines_fuse_with_it_leaves_too() {
    let q = "model.layers.0.self_attn.q_proj";
    let case = on(base(config("compressed-tensors", "LlamaForCausalLM"), &LAYER), &[q]);
    let fused = &LAYER[..3];
    let output = output(&case);
    for module in LAYER {
        let (dtype, copied) = output[&format!("{module}.weight")];
        assert_eq!((dtype == Dtype::BF16, copied), (fused.contains(&module), !fused.contains(&module)), "{module}");
        assert_eq!(output.contains_key(&format!("{module}.weight_scale")), !fused.contains(&module), "{module}");
    }
    let mut names: Vec<_> = fused.to_vec();
    names.sort_unstable();
    assert_eq!(config_of(&case)["quantization_config"]["ignore"], json!(names));
    let weight = |module: &str| format!("{module}.weight");
    let along = |module: &str| (weight(module), Some(weight(q)), 60, 72);
    assert_eq!(leaves(&case), [(weight(q), None, 60, 72), along(fused[1]), along(fused[2])]);
    let report = case.plan().unwrap().1;
    assert_eq!((report.tensors_changed, report.tensors_dequantised, report.tensors_copied), (1, 2, 4));
}

#[test]
fn the_two_halves_of_latent_attention_leave_together() {
    let modules = ["m.0.self_attn.q_a_proj", "m.0.self_attn.kv_a_proj_with_mqa", "m.0.self_attn.q_b_proj"];
    let case = on(base(config("fp8", "DeepseekV3ForCausalLM"), &modules), &modules[..1]);
    let held = &config_of(&case)["quantization_config"]["modules_to_not_convert"];
    assert_eq!(held, &json!(["lm_head", "m.0.self_attn.kv_a_proj_with_mqa", "m.0.self_attn.q_a_proj"]));
    assert_eq!(output(&case)["m.0.self_attn.q_b_proj.weight"], (Dtype::F8_E4M3, true));
}

#[test]
fn all_experts_of_a_layer_leave_together_and_the_stack_of_the_model_is_named() {
    let modules = [
        "model.layers.3.mlp.experts.0.gate_proj",
        "model.layers.3.mlp.experts.1.down_proj",
        "model.layers.3.mlp.shared_experts.gate_proj",
        "model.layers.4.mlp.experts.0.gate_proj",
    ];
    let case = on(base(config("fp8", "DeepseekV3ForCausalLM"), &modules), &modules[1..2]);
    let held = &config_of(&case)["quantization_config"]["modules_to_not_convert"];
    assert_eq!(held, &json!(["lm_head", "model.layers.3.mlp.experts", modules[0], modules[1]]));
    let output = output(&case);
    assert_eq!(output[&format!("{}.weight", modules[0])], (Dtype::BF16, false));
    assert!(modules[2..].iter().all(|module| output[&format!("{module}.weight")] == (Dtype::F8_E4M3, true)));
}

#[test]
fn a_name_that_reaches_other_modules_takes_them_along() {
    let modules = ["layers.0.proj", "vision.layers.0.proj", "layers.0.proj_out", "layers.0.proj.inner"];
    let left = |method: &str| {
        let case = on(base(config(method, "NewForCausalLM"), &modules), &modules[..1]);
        leaves(&case).into_iter().map(|(name, ..)| name.replace(".weight", "")).collect::<Vec<_>>()
    };
    assert_eq!(left("compressed-tensors"), modules[..1]);
    assert_eq!(left("fp8"), [modules[0], modules[1], modules[3]]);
    assert_eq!(left("awq"), modules);
}

#[test]
fn the_configuration_goes_with_the_last_quantised_weight() {
    let case = on(base(config("fp8", "LlamaForCausalLM"), &LAYER[4..]), &LAYER[4..]);
    assert_eq!(config_of(&case).get("quantization_config"), None);
    assert!(output(&case).values().all(|(dtype, _)| *dtype == Dtype::BF16));
    let notes = case.plan().unwrap().1.notes;
    let said = "2 parameters as fp8: none stays so, and all are written as floats";
    assert!(notes.iter().any(|note| note.contains(said)), "{notes:?}");
    assert!(notes.iter().all(|note| !note.contains("is copied")), "{notes:?}");
}

#[test]
fn all_experts_of_gpt_oss_leave_with_one() {
    let config = json!({"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "quantization_config": {"quant_method": "mxfp4"}});
    let experts: [(&'static str, &[u64]); 5] = [
        ("model.layers.0.mlp.experts.down_proj_blocks", &[2, 6, 1, 16]),
        ("model.layers.0.mlp.experts.down_proj_scales", &[2, 6, 1]),
        ("model.layers.1.mlp.experts.down_proj_blocks", &[2, 6, 1, 16]),
        ("model.layers.1.mlp.experts.down_proj_scales", &[2, 6, 1]),
        ("model.embed_tokens.weight", &[10, 6]),
    ];
    // Two experts of rank 2.
    let target = "base_model.model.model.layers.0.mlp.experts";
    let part = |part: &str| -> &'static str { format!("{target}.lora_{part}.weight").leak() };
    let tensors = [(part("A"), &[4u64, 6][..]), (part("B"), &[32, 4][..])];
    let case = Case::new(config, &experts).adapter(json!({"target_parameters": ["mlp.experts.down_proj"]}), &tensors);
    let case = Case { adjust: coded, ..case };
    assert_eq!(config_of(&case).get("quantization_config"), None);
    let output = output(&case);
    assert!(output.keys().all(|name| !name.ends_with("_blocks") && !name.ends_with("_scales")), "{output:?}");
    let left: Vec<_> = leaves(&case).into_iter().map(|(name, with, ..)| (name, with.is_some())).collect();
    let name = |layer: u8| format!("model.layers.{layer}.mlp.experts.down_proj");
    assert_eq!(left, [(name(0), false), (name(1), true)]);
}

#[test]
fn rows_that_share_a_scale_with_others_leave_with_the_whole_matrix() {
    let fused = "encoder.layers.0.attn.Wqkv";
    let tensors: [(&'static str, &[u64]); 2] =
        [("encoder.layers.0.attn.Wqkv.weight", &[18, 6]), ("encoder.layers.0.attn.Wqkv.weight_scale", &[])];
    let case = Case { adjust: coded, ..Case::new(config("compressed-tensors", "NomicBertModel"), &tensors) };
    let case = on(case, &["layers.0.self_attn.k_proj"]);
    let (plan, report) = case.plan().unwrap();
    let placed = &plan.output.files[0].tensors;
    let portions: Vec<_> =
        placed.iter().map(|t| (t.name.as_str(), t.dtype, t.portion.as_ref().map(|p| p.first))).collect();
    let name = tensors[0].0;
    assert_eq!(portions, [0, 6, 12].map(|first| (name, Dtype::BF16, Some(first))));
    assert_eq!(report.left.iter().map(|left| left.name.as_str()).collect::<Vec<_>>(), [format!("{fused}.weight")]);
}

#[test]
fn files_that_repeat_the_configuration_change_with_it() {
    fn adjust(spec: &mut MergeSpec, inventory: &mut Inventory) {
        coded(spec, inventory);
        spec.card = crate::spec::Card::None;
        let held = |held: Value| ("hf_quant_config.json".to_owned(), held);
        inventory.base.repeated =
            vec![held(json!({"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}))];
        let sidecar = Sidecar { name: "hf_quant_config.json".into(), object: ObjectId(0) };
        inventory.base.sidecars = vec![sidecar, Sidecar { name: "quant_config.json".into(), object: ObjectId(0) }];
    }
    let o_proj = LAYER[3];
    for config in [config("modelopt", "LlamaForCausalLM"), json!({"model_type": LLAMA})] {
        let case = Case { adjust, ..on(base(config, &LAYER), &[o_proj]) };
        let (plan, _) = case.plan().unwrap();
        // The other file could not be read as JSON.
        let [(name, SmallFile::Text(text))] = plan.output.sidecars.as_slice() else {
            panic!("{:?}", plan.output.sidecars)
        };
        let held: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            (name.as_str(), &held["quantization"]["exclude_modules"]),
            ("hf_quant_config.json", &json!(["lm_head", o_proj]))
        );
    }
    let gone = Case { adjust, ..on(base(config("modelopt", "LlamaForCausalLM"), &LAYER[3..4]), &[o_proj]) };
    assert!(gone.plan().unwrap().0.output.sidecars.is_empty());
}

#[test]
fn scales_that_belong_to_no_weight_are_never_converted() {
    let tensors: [(&'static str, &[u64]); 4] = [
        ("m.0.self_attn.q_proj.weight", &[6, 6]),
        ("m.0.self_attn.q_proj.weight_scale", &[6, 1]),
        ("m.0.self_attn.k_scale", &[1]),
        ("m.0.self_attn.o_proj.weight", &[6, 6]),
    ];
    fn adjust(spec: &mut MergeSpec, inventory: &mut Inventory) {
        coded(spec, inventory);
        spec.dtype = "f16".parse().unwrap();
    }
    let case = Case::new(config("compressed-tensors", "LlamaForCausalLM"), &tensors);
    let output = output(&Case { adjust, ..on(case, &["m.0.self_attn.o_proj"]) });
    let dtypes: Vec<Dtype> = tensors.iter().map(|(name, _)| output[*name].0).collect();
    assert_eq!(dtypes, [Dtype::F8_E4M3, Dtype::F32, Dtype::F32, Dtype::F16]);
}

#[test]
fn a_method_whose_list_is_not_known_is_refused_by_name() {
    let case = on(base(config("fresh", "LlamaForCausalLM"), &LAYER), &LAYER[3..4]);
    let (kind, text) = case.refusal();
    assert!(kind == Kind::Unsupported && text.contains("fresh") && text.contains(LAYER[3]), "{text}");
    let all = Case {
        adjust: |spec, inventory| {
            coded(spec, inventory);
            spec.quantised = Quantised::Dequantise;
        },
        ..case
    };
    assert_eq!(config_of(&all).get("quantization_config"), None);
}

#[test]
fn a_neighbour_that_cannot_be_decoded_is_named_with_the_one_that_needs_it() {
    // The scales of k_proj fit no block.
    let tensors: [(&'static str, &[u64]); 4] = [
        ("m.0.q_proj.weight", &[6, 6]),
        ("m.0.q_proj.weight_scale", &[6, 1]),
        ("m.0.k_proj.weight", &[6, 6]),
        ("m.0.k_proj.weight_scale", &[4, 5]),
    ];
    let case = Case { adjust: coded, ..Case::new(config("fp8", "LlamaForCausalLM"), &tensors) };
    let (kind, text) = on(case, &["m.0.q_proj"]).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(text.contains("m.0.k_proj.weight") && text.contains("m.0.q_proj.weight"), "{text}");
}
