//! What is changed stays quantised and is encoded again: which tensors are made, and what they wait for.

use super::*;
use crate::recipe::Requantise;
use crate::spec::Quantised;
use crate::statistic::Kind as Statistic;

/// FP8 is what has a scale, MXFP4 what has blocks; all other weights are BF16.
fn coded(spec: &mut MergeSpec, inventory: &mut Inventory) {
    spec.quantised = Quantised::Requantise;
    let tensors = &mut inventory.base.shards[0].tensors;
    let names: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
    for tensor in tensors {
        tensor.dtype = match &tensor.name {
            name if names.contains(&format!("{name}_scale")) => Dtype::F8_E4M3,
            name if name.ends_with("_blocks") || name.ends_with("_scales") => Dtype::U8,
            name if name.ends_with("qweight") || name.ends_with("qzeros") || name.ends_with("g_idx") => Dtype::I32,
            name if name.ends_with("_scale") => Dtype::F32,
            name if name.ends_with(".scales") => Dtype::F16,
            _ => Dtype::BF16,
        };
    }
}

const WEIGHT: &str = "model.layers.0.self_attn.q_proj.weight";
const SCALE: &str = "model.layers.0.self_attn.q_proj.weight_scale";
const FACTORS: [(&str, &[u64]); 2] = [
    ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", &[2, 6]),
    ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", &[8, 2]),
];

fn config(method: &str) -> Value {
    json!({
        "model_type": LLAMA, "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": method},
    })
}

/// A weight [8, 6] with these scales and another one that engines fuse with it.
fn case(method: &str, scale: &'static [u64]) -> Case {
    let base: [(&str, &[u64]); 5] = [
        (WEIGHT, &[8, 6]),
        (SCALE, scale),
        ("model.layers.0.self_attn.k_proj.weight", &[8, 6]),
        ("model.layers.0.self_attn.k_proj.weight_scale", scale),
        ("model.embed_tokens.weight", &[10, 6]),
    ];
    Case { adjust: coded, ..Case::new(config(method), &base).adapter(json!({}), &FACTORS) }
}

/// What is encoded of each tensor of the output: `None` if it is copied.
fn encoded(case: &Case) -> Vec<(String, Dtype, Option<Requantise>)> {
    let of = |recipe: &Recipe| match recipe {
        Recipe::Requantise(requantise) => Some((**requantise).clone()),
        Recipe::Copy(_) => None,
        Recipe::Fuse(fuse) => panic!("{} is written as values", fuse.start.name()),
    };
    let tensors = case.plan().unwrap().0.output.files.remove(0).tensors;
    tensors.into_iter().map(|t| (t.name, t.dtype, of(&t.recipe))).collect()
}

#[test]
fn codes_and_scales_are_made_of_one_recipe_and_everything_else_stays() {
    let case = case("compressed-tensors", &[8, 1]);
    let tensors = encoded(&case);
    let made: Vec<_> =
        tensors.iter().filter_map(|(name, dtype, r)| Some((name.as_str(), *dtype, r.as_ref()?.tensor))).collect();
    assert_eq!(made, [(WEIGHT, Dtype::F8_E4M3, 0), (SCALE, Dtype::F32, 1)]);
    let (codes, scales) = (tensors[0].2.as_ref().unwrap(), tensors[1].2.as_ref().unwrap());
    assert_eq!(codes.fuse, scales.fuse);
    assert_eq!((codes.fuse.steps.len(), codes.range), (1, None));
    assert_eq!(config_of(&case), case.config, "quantization_config and all else");
    let (plan, report) = case.plan().unwrap();
    let requantised: Vec<_> =
        report.requantised.iter().map(|e| (e.name.as_str(), e.scheme.as_str(), e.bytes)).collect();
    assert_eq!((requantised.as_slice(), report.left.len()), (&[(WEIGHT, "fp8", 48 + 32)][..], 0));
    assert_eq!((report.tensors_changed, report.tensors_copied), (1, 2));
    assert_eq!(plan.output.files[0].tensors.iter().map(|t| t.length).collect::<Vec<_>>(), [48, 32, 48, 32, 120]);
}

#[test]
fn nothing_is_encoded_before_what_survives_is_known() {
    let mut case = case("compressed-tensors", &[8, 1]);
    case.base.push(("model.layers.9.mlp.up_proj.weight", vec![80, 80]));
    let (plan, _) = case.plan().unwrap();
    let [survival] = plan.statistics.as_slice() else { panic!("{:?}", plan.statistics) };
    assert!(matches!(survival.kind, Statistic::Survival { range: None, .. }) && survival.tensor == WEIGHT);
    let all = tasks(&plan);
    assert!(matches!(all[0].work, Work::Reduce { .. }) && all[0].after.is_empty());
    let fills: Vec<_> = all[1..].iter().map(|task| task.after.clone()).collect();
    assert_eq!(fills[..3], [vec![], vec![0], vec![]], "parts with codes wait, header and copies do not: {all:?}");
}

#[test]
fn one_scale_for_all_values_waits_for_the_largest() {
    let (plan, _) = case("compressed-tensors", &[]).plan().unwrap();
    let kinds: Vec<_> = plan.statistics.iter().map(|s| (s.kind, s.needs.clone())).collect();
    let [(Statistic::Range, none), (Statistic::Survival { range: Some(id), .. }, needs)] = kinds.as_slice() else {
        panic!("{kinds:?}")
    };
    assert_eq!((none.len(), needs.as_slice(), id.0), (0, &[*id][..], 0));
    let all = tasks(&plan);
    assert_eq!((all[1].after.as_slice(), all.last().unwrap().after.as_slice()), (&[0][..], &[0, 1][..]));
    let recipe = &plan.output.files[0].tensors[0].recipe;
    assert_eq!(recipe.statistics().collect::<Vec<_>>(), [*id]);
}

#[test]
fn experts_that_nothing_changes_are_copied() {
    let config = json!({"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "quantization_config": {"quant_method": "mxfp4"}});
    let base: [(&str, &[u64]); 3] = [
        ("model.layers.0.mlp.experts.down_proj_blocks", &[2, 6, 1, 16]),
        ("model.layers.0.mlp.experts.down_proj_scales", &[2, 6, 1]),
        ("model.embed_tokens.weight", &[10, 6]),
    ];
    let target = "base_model.model.model.layers.0.mlp.experts";
    let part = |part: &str| -> &'static str { format!("{target}.lora_{part}.weight").leak() };
    let tensors = [(part("A"), &[4u64, 6][..]), (part("B"), &[32, 4][..])];
    let case = Case::new(config, &base).adapter(json!({"target_parameters": ["mlp.experts.down_proj"]}), &tensors);
    let case = Case { adjust: coded, ..case };
    let (plan, report) = case.plan().unwrap();
    let placed = &plan.output.files[0].tensors;
    let of = |t: &crate::recipe::Placed| {
        (t.name.clone(), t.shape.clone(), t.portion.as_ref().map(|p| (p.of.clone(), p.first)), t.length)
    };
    let name = |ending: &str| format!("{}{ending}", "model.layers.0.mlp.experts.down_proj");
    let expected = [
        (name("_blocks"), vec![1, 6, 1, 16], Some((vec![2, 6, 1, 16], 0)), 96),
        (name("_blocks"), vec![1, 6, 1, 16], Some((vec![2, 6, 1, 16], 6)), 96),
        (name("_scales"), vec![1, 6, 1], Some((vec![2, 6, 1], 0)), 6),
        (name("_scales"), vec![1, 6, 1], Some((vec![2, 6, 1], 6)), 6),
    ];
    assert_eq!(placed[..4].iter().map(of).collect::<Vec<_>>(), expected);
    assert_eq!((plan.statistics.len(), report.requantised.len()), (2, 1), "one for each expert");
}

#[test]
fn rows_between_whole_blocks_are_encoded_and_rows_within_one_are_refused() {
    let fused = |scale: &'static [u64]| {
        let base: [(&str, &[u64]); 2] =
            [("encoder.layers.0.attn.Wqkv.weight", &[18, 6]), ("encoder.layers.0.attn.Wqkv.weight_scale", scale)];
        let mut config = config("compressed-tensors");
        config["architectures"] = json!(["NomicBertModel"]);
        let tensors: [(&str, &[u64]); 2] = [
            ("base_model.model.layers.0.self_attn.k_proj.lora_A.weight", &[2, 6]),
            ("base_model.model.layers.0.self_attn.k_proj.lora_B.weight", &[6, 2]),
        ];
        Case { adjust: coded, ..Case::new(config, &base).adapter(json!({}), &tensors) }
    };
    let tensors = fused(&[18, 1]).plan().unwrap().0.output.files.remove(0).tensors;
    let made: Vec<_> = tensors.iter().map(|t| (t.shape[0], matches!(t.recipe, Recipe::Requantise(_)))).collect();
    assert_eq!(made, [(6, false), (6, true), (6, false)].repeat(2), "codes, then scales");
    let (kind, text) = fused(&[]).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(text.contains("Wqkv.weight") && text.contains("share a scale"), "{text}");
}

#[test]
fn what_cannot_be_encoded_is_refused_by_name_with_the_reason() {
    let gptq: [(&str, &[u64]); 5] = [
        ("model.layers.0.self_attn.q_proj.g_idx", &[32]),
        ("model.layers.0.self_attn.q_proj.qweight", &[4, 8]),
        ("model.layers.0.self_attn.q_proj.qzeros", &[1, 1]),
        ("model.layers.0.self_attn.q_proj.scales", &[1, 8]),
        ("model.embed_tokens.weight", &[10, 6]),
    ];
    let mut config = config("gptq");
    config["quantization_config"]["bits"] = 4.into();
    config["quantization_config"]["group_size"] = 32.into();
    let factors: [(&str, &[u64]); 2] = [(FACTORS[0].0, &[2, 32]), (FACTORS[1].0, &[8, 2])];
    let (kind, text) = Case { adjust: coded, ..Case::new(config, &gptq).adapter(json!({}), &factors) }.refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(text.contains(WEIGHT) && text.contains("stored as gptq") && text.contains("calibrates"), "{text}");
    let (_, text) = case("quark", &[8, 1]).refusal();
    assert!(text.contains("quark"), "{text}");
    let whole: [(&str, &[u64]); 1] =
        [("base_model.model.model.layers.0.self_attn.q_proj.modules_to_save.weight", &[8, 6])];
    let replaced = Case { adapters: Vec::new(), weights: Vec::new(), ..case("compressed-tensors", &[8, 1]) };
    let replaced = replaced.adapter(json!({"modules_to_save": ["q_proj"]}), &whole);
    let (_, text) = replaced.refusal();
    assert!(text.contains(WEIGHT) && text.contains("adapter 1 replaces it"), "{text}");
}

#[test]
fn options_that_contradict_it_are_usage_errors() {
    let with = |adjust| Case { adjust, ..case("compressed-tensors", &[8, 1]) }.refusal();
    let (kind, text) = with(|spec, inventory| {
        coded(spec, inventory);
        spec.rounding = crate::spec::Rounding::PerAdapter;
    });
    assert!(kind == Kind::Usage && text.contains("--rounding per-adapter"), "{text}");
    let (kind, text) = with(|spec, _| spec.survival = Some(0.5));
    assert!(kind == Kind::Usage && text.contains("--survival 0.5 has no meaning"), "{text}");
    let (kind, text) = with(|spec, inventory| {
        coded(spec, inventory);
        spec.survival = Some(1.5);
    });
    assert!(kind == Kind::Usage && text.contains("from 0 to 1"), "{text}");
}

#[test]
fn a_dtype_converts_plain_weights_only() {
    let case = Case {
        adjust: |spec, inventory| {
            coded(spec, inventory);
            spec.dtype = "f16".parse().unwrap();
        },
        ..case("compressed-tensors", &[8, 1])
    };
    let tensors = case.plan().unwrap().0.output.files.remove(0).tensors;
    let dtypes: Vec<_> = tensors.iter().map(|t| t.dtype).collect();
    assert_eq!(dtypes, [Dtype::F8_E4M3, Dtype::F32, Dtype::F8_E4M3, Dtype::F32, Dtype::F16]);
}
