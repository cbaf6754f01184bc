//! Adapters of stacked experts: which tensors and rows they change, and what is refused. Values are held to PEFT by golden cases.

use super::*;
use crate::recipe::{LowRank, Placed};
use crate::spec::ExpertOrder;

const MIXTRAL: &str = "MixtralForCausalLM";
const QWEN: &str = "Qwen3MoeForCausalLM";
const GATE_UP: &str = "base_model.model.model.layers.0.mlp.experts.base_layer";
const DOWN: &str = "base_model.model.model.layers.0.mlp.experts";

/// A layer of experts stored one by one: hidden 3, intermediate 5.
fn one_by_one(experts: u64) -> Vec<(&'static str, Vec<u64>)> {
    let of = |expert: u64| {
        let name = |part: &str| -> &'static str {
            Box::leak(format!("model.layers.0.mlp.experts.{expert}.{part}.weight").into_boxed_str())
        };
        [(name("gate_proj"), vec![5, 3]), (name("up_proj"), vec![5, 3]), (name("down_proj"), vec![3, 5])]
    };
    (0..experts).flat_map(of).collect()
}

fn key(module: &str, part: &str) -> &'static str {
    Box::leak(format!("{module}.{part}.weight").into_boxed_str())
}

/// Factors of gate and up and of down, of so many experts and of rank 2.
fn factors(experts: u64) -> [(&'static str, Vec<u64>); 4] {
    let r = 2 * experts;
    [
        (key(GATE_UP, "lora_A"), vec![r, 3]),
        (key(GATE_UP, "lora_B"), vec![10, r]),
        (key(DOWN, "lora_A"), vec![r, 5]),
        (key(DOWN, "lora_B"), vec![3, r]),
    ]
}

fn case(class: &str, base: Vec<(&'static str, Vec<u64>)>, config: Value, tensors: &[(&'static str, Vec<u64>)]) -> Case {
    let mut all = json!({"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]});
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let mut case = Case::new(json!({"model_type": "any", "architectures": [class]}), &[]);
    case.base = base;
    let tensors: Vec<(&'static str, &[u64])> = tensors.iter().map(|(name, shape)| (*name, shape.as_slice())).collect();
    case.adapter(all, &tensors)
}

fn placed(case: &Case) -> Vec<Placed> {
    case.plan().unwrap().0.output.files.remove(0).tensors
}

fn low_rank(placed: &Placed) -> LowRank {
    let Recipe::Fuse(fuse) = &placed.recipe else { panic!("{} is copied", placed.name) };
    match &fuse.steps[..] {
        [step] => match &step.op {
            Op::Add(Add(Delta::LowRank(delta))) => delta.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_pair_changes_every_tensor_of_every_expert() {
    let tensors = placed(&case(QWEN, one_by_one(3), json!({}), &factors(3)));
    assert_eq!(tensors.len(), 9);
    for tensor in &tensors {
        let delta = low_rank(tensor);
        assert_eq!(
            (delta.left.view.rows, delta.right.view.cols),
            (tensor.shape[0], tensor.shape[1]),
            "{}",
            tensor.name
        );
        assert_eq!(delta.rank(), 2);
    }
    let up = tensors.iter().find(|t| t.name.ends_with("experts.2.up_proj.weight")).map(low_rank).unwrap();
    // B is [10, 6]: rows from 5 on, every third column from 2 on. A is [6, 3]: rows 4 and 5.
    assert_eq!((up.left.view.offset, up.left.view.row_stride, up.left.view.col_stride), (5 * 6 + 2, 6, 3));
    assert_eq!((up.right.view.offset, up.right.view.row_stride), (4 * 3, 3));
}

/// Two adapters of three experts, each read with its order.
fn ordered(orders: &[ExpertOrder], second: &[(&'static str, Vec<u64>)]) -> Result<(Plan, Report)> {
    let first = factors(3);
    let shapes: Vec<(&'static str, &[u64])> = second.iter().map(|(name, shape)| (*name, shape.as_slice())).collect();
    let case = case(QWEN, one_by_one(3), json!({}), &first).adapter(json!({"target_parameters": null}), &shapes);
    let (mut spec, inventory) = case.inputs().unwrap();
    spec.expert_order = orders.to_vec();
    Plan::new(spec, &inventory)
}

#[test]
fn the_order_of_experts_is_that_of_the_flag_for_all_adapters_or_for_each() {
    use ExpertOrder::{Fastest, Slowest};
    let of_b = |orders: &[ExpertOrder], adapter: usize| {
        let both = case(QWEN, one_by_one(3), json!({}), &factors(3));
        let config = json!({"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]});
        let same = factors(3);
        let shapes: Vec<(&'static str, &[u64])> = same.iter().map(|(name, shape)| (*name, shape.as_slice())).collect();
        let (mut spec, inventory) = both.adapter(config, &shapes).inputs().unwrap();
        spec.expert_order = orders.to_vec();
        let (plan, _) = Plan::new(spec, &inventory).unwrap();
        let up = plan.output.files[0].tensors.iter().find(|t| t.name.ends_with("experts.2.up_proj.weight")).unwrap();
        let Recipe::Fuse(fuse) = &up.recipe else { panic!("{up:?}") };
        let view = left(fuse.steps[adapter].op.delta().unwrap()).view;
        (view.offset, view.row_stride, view.col_stride, view.rows, view.cols)
    };
    // B is [10, 6]: rows from 5 on. Of expert 2 with rank 2, columns 2 and 5, or 4 and 5.
    let (fastest, slowest) = ((5 * 6 + 2, 6, 3, 5, 2), (5 * 6 + 4, 6, 1, 5, 2));
    for (orders, expected) in [
        (&[][..], [fastest, fastest]),
        (&[Slowest], [slowest, slowest]),
        (&[Slowest, Fastest], [slowest, fastest]),
        (&[Fastest, Slowest], [fastest, slowest]),
    ] {
        assert_eq!([of_b(orders, 0), of_b(orders, 1)], expected, "{orders:?}");
    }
}

#[test]
fn an_order_that_has_no_effect_is_refused() {
    use ExpertOrder::{Fastest, Slowest};
    let one = "base_model.model.model.layers.0.mlp.experts.1.gate_proj";
    let pair = [(key(one, "lora_A"), vec![2, 3]), (key(one, "lora_B"), vec![5, 2])];
    let (_, report) = ordered(&[Slowest], &pair).unwrap();
    let notes: Vec<&String> = report.notes.iter().filter(|note| note.contains("--expert-order")).collect();
    assert!(notes.len() == 1 && notes[0].starts_with("adapter 1: "), "{notes:?}");
    let refused = |orders: &[ExpertOrder]| {
        let error = ordered(orders, &pair).unwrap_err();
        (error.kind(), error.message().to_owned())
    };
    let (kind, message) = refused(&[Fastest, Slowest]);
    assert_eq!(kind, Kind::Conflict);
    assert!(
        message.ends_with("--expert-order slowest for adapter 2, which holds no lora_B for all experts"),
        "{message}"
    );
    let (kind, message) = refused(&[Slowest; 3]);
    assert_eq!((kind, message.as_str()), (Kind::Usage, "--expert-order is given 3 times, and there are 2 adapters"));
    let mut spec_of_none = linear().adapter(json!({}), &Q);
    spec_of_none.adjust = |spec, _| spec.expert_order = vec![Slowest];
    assert_eq!(
        spec_of_none.refusal(),
        (Kind::Conflict, "--expert-order slowest, but no adapter holds one lora_B for all experts".to_owned())
    );
}

#[test]
fn a_stacked_tensor_keeps_its_name_and_has_a_recipe_for_each_part_of_each_expert() {
    let base = vec![
        ("model.layers.0.mlp.experts.gate_up_proj", vec![2, 10, 3]),
        ("model.layers.0.mlp.experts.down_proj", vec![2, 3, 5]),
    ];
    let case = case(QWEN, base, json!({}), &factors(2));
    let (plan, report) = case.plan().unwrap();
    let file = &plan.output.files[0];
    let rows: Vec<_> = file.tensors.iter().map(|t| t.portion.as_ref().map(|p| (p.of.clone(), p.first))).collect();
    let gate_up = [0, 5, 10, 15].map(|first| Some((vec![2, 10, 3], first)));
    assert_eq!(rows[..4], gate_up);
    assert_eq!(rows[4..], [0, 3].map(|first| Some((vec![2, 3, 5], first))));
    let header: Value = serde_json::from_slice(&file.header()[8..]).unwrap();
    assert_eq!(header["model.layers.0.mlp.experts.gate_up_proj"]["data_offsets"], json!([0, 240]));
    assert_eq!(header["model.layers.0.mlp.experts.down_proj"]["shape"], json!([2, 3, 5]));
    assert_eq!(header.as_object().unwrap().len(), 3, "two tensors, and the metadata");
    assert_eq!(report.tensors_changed, 2);
    for pair in file.tensors.windows(2) {
        assert_eq!(pair[0].offset + pair[0].length, pair[1].offset);
        let start = |t: &Placed| t.recipe.starts()[0].clone();
        let (one, next) = (start(&pair[0]), start(&pair[1]));
        assert!(
            one.name != next.name || one.offset + one.bytes() == next.offset,
            "it begins at its own bytes of the base"
        );
    }
}

#[test]
fn an_expert_that_the_base_lacks_is_named() {
    let mut base = one_by_one(3);
    base.remove(4);
    let (kind, message) = case(QWEN, base, json!({}), &factors(3)).refusal();
    assert_eq!(kind, Kind::MissingTensor);
    assert!(message.contains("expert 1 of 3 lacks the tensor that others store as"), "{message}");
}

#[test]
fn factors_for_another_number_of_experts_or_another_width_are_refused() {
    let (kind, message) = case(QWEN, one_by_one(3), json!({}), &factors(4)).refusal();
    assert_eq!(kind, Kind::RankMismatch);
    assert!(message.contains("[8, 3]") && message.contains("the 3 experts"), "{message}");
    let mut wide = factors(3);
    wide[1].1[0] = 12;
    let (kind, message) = case(QWEN, one_by_one(3), json!({}), &wide).refusal();
    assert_eq!(kind, Kind::ShapeMismatch);
    assert!(message.contains("[12, 6]") && message.contains("[3, 10, 3]"), "{message}");
}

#[test]
fn a_rank_that_the_configuration_does_not_have_is_refused() {
    assert_eq!(case(QWEN, one_by_one(3), json!({"r": 3}), &factors(3)).refusal().0, Kind::RankMismatch);
}

#[test]
fn a_parameter_without_factors_and_factors_without_a_parameter_are_refused() {
    let (kind, message) = case(QWEN, one_by_one(2), json!({}), &factors(2)[..2]).refusal();
    assert_eq!(kind, Kind::IncompletePair, "{message}");
    let only = json!({"target_parameters": ["mlp.experts.down_proj"]});
    let (kind, message) = case(QWEN, one_by_one(2), only, &factors(2)).refusal();
    assert_eq!(kind, Kind::Conflict);
    assert!(message.contains("has base_layer 1 times") && message.contains("names 1 of"), "{message}");
}

#[test]
fn several_parameters_of_an_unknown_class_are_refused_and_one_is_not() {
    let base = || {
        vec![
            ("model.layers.0.mlp.experts.gate_up_proj", vec![2, 10, 3]),
            ("model.layers.0.mlp.experts.down_proj", vec![2, 3, 5]),
        ]
    };
    let (kind, message) = case("Unheard", base(), json!({}), &factors(2)).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(message.contains("the order in which its class registers"), "{message}");
    let only = json!({"target_parameters": ["mlp.experts.down_proj"]});
    assert_eq!(placed(&case("Unheard", base(), only, &factors(2)[2..])).len(), 3);
}

#[test]
fn a_magnitude_of_a_parameter_is_refused() {
    let magnitude = (key(DOWN, "lora_magnitude_vector"), vec![3]);
    let tensors: Vec<_> = factors(2).into_iter().chain([magnitude]).collect();
    let (kind, message) = case(QWEN, one_by_one(2), json!({}), &tensors).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(message.contains("lora_magnitude_vector"), "{message}");
}

/// A square parameter that nothing else tells about: what the release of PEFT took for the inputs.
#[test]
fn a_square_parameter_goes_by_the_release() {
    let base = || vec![("model.layers.0.mlp.experts.down_proj", vec![2, 4, 4])];
    let tensors = [(key(DOWN, "lora_A"), vec![4, 4]), (key(DOWN, "lora_B"), vec![4, 4])];
    for (version, left) in [("0.18.1", "lora_A"), ("0.21.2", "lora_B")] {
        let config = json!({"target_parameters": ["mlp.experts.down_proj"], "peft_version": version});
        let delta = low_rank(&placed(&case(QWEN, base(), config, &tensors))[0]);
        assert!(delta.left.source.name.contains(left), "{version}: {}", delta.left.source.name);
    }
}

#[test]
fn a_change_of_one_expert_leaves_the_others() {
    let base = vec![("model.layers.0.mlp.experts.gate_up_proj", vec![2, 10, 3])];
    let module = "base_model.model.model.layers.0.mlp.experts.1.w3";
    let tensors = [(key(module, "lora_A"), vec![2, 3]), (key(module, "lora_B"), vec![5, 2])];
    let tensors = placed(&case(MIXTRAL, base, json!({"target_parameters": null}), &tensors));
    let changed: Vec<bool> = tensors.iter().map(|t| matches!(t.recipe, Recipe::Fuse(_))).collect();
    assert_eq!(changed, [false, true], "expert 0 and gate of expert 1, and up of expert 1");
}

#[test]
fn an_expert_that_the_stack_lacks_is_refused() {
    let base = vec![("model.layers.0.mlp.experts.gate_up_proj", vec![2, 10, 3])];
    let module = "base_model.model.model.layers.0.mlp.experts.2.gate_proj";
    let tensors = [(key(module, "lora_A"), vec![2, 3]), (key(module, "lora_B"), vec![5, 2])];
    let (kind, message) = case(QWEN, base, json!({"target_parameters": null}), &tensors).refusal();
    assert_eq!(kind, Kind::ShapeMismatch);
    assert!(message.contains("is expert 2") && message.contains("[2, 10, 3]"), "{message}");
}

/// gpt-oss stores [experts, inputs, outputs], so the weight of one linear of an expert is columns there.
#[test]
fn one_expert_of_a_tensor_that_is_stored_the_other_way_round_is_refused() {
    let base = vec![("model.layers.0.mlp.experts.gate_up_proj", vec![2, 4, 10])];
    let module = "base_model.model.model.layers.0.mlp.experts.1.gate_proj";
    let tensors = [(key(module, "lora_A"), vec![2, 4]), (key(module, "lora_B"), vec![5, 2])];
    let (kind, message) = case("GptOssForCausalLM", base, json!({"target_parameters": null}), &tensors).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(message.contains("experts.1.gate_proj") && message.contains("experts.gate_up_proj"), "{message}");
}
