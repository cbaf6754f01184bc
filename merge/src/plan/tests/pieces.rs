//! Weights that a base stores in pieces: which tensors and rows an adapter changes. Values are held to PEFT by golden cases.

use super::*;
use crate::recipe::{LowRank, Placed};

const NOMIC: &str = "NomicBertModel";
const MINIMAX: &str = "MiniMaxM3SparseForConditionalGeneration";
const FUSED: &str = "encoder.layers.0.attn.Wqkv.weight";

fn case(class: &str, base: &[(&'static str, &[u64])], config: Value, tensors: &[(&'static str, &[u64])]) -> Case {
    Case::new(json!({"model_type": "any", "architectures": [class]}), base).adapter(config, tensors)
}

fn placed(case: &Case) -> Vec<Placed> {
    case.plan().unwrap().0.output.files.remove(0).tensors
}

/// The factors of the only delta, and the magnitude if there is one.
fn delta(placed: &Placed) -> (LowRank, Option<Operand>) {
    let Recipe::Fuse(fuse) = &placed.recipe else { panic!("{} is copied", placed.name) };
    match fuse.steps.as_slice() {
        [step] => match &step.op {
            Op::Add(Add(Delta::LowRank(delta))) => (delta.clone(), None),
            Op::Dora(Dora { delta: Delta::LowRank(delta), magnitude, .. }) => (delta.clone(), Some(magnitude.clone())),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Name, first row and count of each portion, and whether it changes.
fn portions(tensors: &[Placed]) -> Vec<(u64, u64, bool)> {
    let changes = |t: &Placed| matches!(t.recipe, Recipe::Fuse(_));
    tensors.iter().map(|t| (t.portion.as_ref().map_or(0, |p| p.first), t.shape[0], changes(t))).collect()
}

#[test]
fn a_part_of_a_fused_tensor_is_a_portion_of_it() {
    let tensors: &[(&str, &[u64])] = &[
        ("base_model.model.layers.0.self_attn.k_proj.lora_A.weight", &[2, 4]),
        ("base_model.model.layers.0.self_attn.k_proj.lora_B.weight", &[4, 2]),
    ];
    let case = case(NOMIC, &[(FUSED, &[12, 4])], json!({}), tensors);
    let tensors = placed(&case);
    assert_eq!(portions(&tensors), [(0, 4, false), (4, 4, true), (8, 4, false)]);
    assert!(tensors.iter().all(|t| t.name == FUSED && t.portion.as_ref().unwrap().of == [12, 4]));
    let start = |t: &Placed| t.recipe.starts()[0].offset;
    assert_eq!([start(&tensors[1]), start(&tensors[2])].map(|at| at - start(&tensors[0])), [64, 128]);
}

#[test]
fn parts_of_one_tensor_may_have_an_adapter_each() {
    let tensors: &[(&str, &[u64])] = &[
        ("base_model.model.layers.0.self_attn.q_proj.lora_A.weight", &[2, 4]),
        ("base_model.model.layers.0.self_attn.q_proj.lora_B.weight", &[4, 2]),
        ("base_model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", &[4]),
        ("base_model.model.layers.0.self_attn.v_proj.lora_A.weight", &[2, 4]),
        ("base_model.model.layers.0.self_attn.v_proj.lora_B.weight", &[4, 2]),
        ("base_model.model.layers.0.self_attn.v_proj.lora_magnitude_vector", &[4]),
    ];
    let tensors = placed(&case(NOMIC, &[(FUSED, &[12, 4])], json!({"use_dora": true}), tensors));
    assert_eq!(portions(&tensors), [(0, 4, true), (4, 4, false), (8, 4, true)]);
    assert!(delta(&tensors[2]).1.unwrap().source.name.contains("v_proj"));
}

#[test]
fn an_adapter_of_the_fused_module_changes_the_parts_that_a_base_has_apart() {
    let base: [(&str, &[u64]); 3] = ["q_proj", "k_proj", "v_proj"].map(|part| -> (&'static str, &'static [u64]) {
        (Box::leak(format!("layers.0.self_attn.{part}.weight").into_boxed_str()), &[4, 4])
    });
    let tensors: &[(&str, &[u64])] = &[
        ("base_model.model.encoder.layers.0.attn.Wqkv.lora_A.weight", &[2, 4]),
        ("base_model.model.encoder.layers.0.attn.Wqkv.lora_B.weight", &[12, 2]),
        ("base_model.model.encoder.layers.0.attn.Wqkv.lora_magnitude_vector", &[12]),
    ];
    let tensors = placed(&case(NOMIC, &base, json!({"use_dora": true}), tensors));
    for (tensor, first) in tensors.iter().zip([0, 4, 8]) {
        let (delta, magnitude) = delta(tensor);
        assert_eq!((delta.left.view.rows, delta.left.view.offset), (4, first * 2), "{}", tensor.name);
        assert_eq!(magnitude.unwrap().view, View { offset: first, ..View::vector(4) });
    }
}

#[test]
fn a_weight_that_is_stored_in_two_tensors_changes_in_both() {
    const GATE: &str = "language_model.model.layers.0.mlp.gate_proj.weight";
    const UP: &str = "language_model.model.layers.0.mlp.up_proj.weight";
    let tensors: &[(&str, &[u64])] = &[
        ("base_model.model.model.language_model.layers.0.mlp.gate_up_proj.lora_A.weight", &[2, 3]),
        ("base_model.model.model.language_model.layers.0.mlp.gate_up_proj.lora_B.weight", &[10, 2]),
    ];
    let case = case(MINIMAX, &[(GATE, &[5, 3]), (UP, &[5, 3])], json!({}), tensors);
    let rows: Vec<_> = placed(&case).iter().map(|t| (t.name.clone(), delta(t).0.left.view.offset)).collect();
    assert_eq!(rows, [(GATE.to_owned(), 0), (UP.to_owned(), 10)]);
}

#[test]
fn factors_that_have_not_as_many_rows_as_the_pieces_are_refused() {
    let base: &[(&str, &[u64])] = &[
        ("layers.0.self_attn.q_proj.weight", &[4, 4]),
        ("layers.0.self_attn.k_proj.weight", &[4, 4]),
        ("layers.0.self_attn.v_proj.weight", &[4, 4]),
    ];
    let tensors: &[(&str, &[u64])] = &[
        ("base_model.model.encoder.layers.0.attn.Wqkv.lora_A.weight", &[2, 4]),
        ("base_model.model.encoder.layers.0.attn.Wqkv.lora_B.weight", &[9, 2]),
    ];
    let (kind, message) = case(NOMIC, base, json!({}), tensors).refusal();
    assert_eq!(kind, Kind::ShapeMismatch);
    assert!(message.contains("has 9 rows") && message.contains("have 12"), "{message}");
}

#[test]
fn a_kind_without_factors_by_rows_is_refused_on_pieces() {
    let base: &[(&str, &[u64])] = &[
        ("layers.0.self_attn.q_proj.weight", &[4, 4]),
        ("layers.0.self_attn.k_proj.weight", &[4, 4]),
        ("layers.0.self_attn.v_proj.weight", &[4, 4]),
    ];
    let tensors: &[(&str, &[u64])] = &[("base_model.model.encoder.layers.0.attn.Wqkv.ia3_l", &[12, 1])];
    let config = json!({"peft_type": "IA3", "feedforward_modules": []});
    let (kind, message) = case(NOMIC, base, config, tensors).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(message.contains("attn.Wqkv") && message.contains("IA3"), "{message}");
}

#[test]
fn another_kind_changes_a_range_of_rows() {
    let tensors: &[(&str, &[u64])] = &[("base_model.model.layers.0.self_attn.v_proj.ia3_l", &[4, 1])];
    let config = json!({"peft_type": "IA3", "feedforward_modules": []});
    let tensors = placed(&case(NOMIC, &[(FUSED, &[12, 4])], config, tensors));
    assert_eq!(portions(&tensors), [(0, 8, false), (8, 4, true)]);
}

#[test]
fn a_bias_that_is_multiplied_with_its_weight_is_rows_of_the_fused_bias() {
    let bias = "encoder.layers.0.attn.Wqkv.bias";
    let tensors: &[(&str, &[u64])] = &[("base_model.model.layers.0.self_attn.k_proj.ia3_l", &[4, 1])];
    let config = json!({"peft_type": "IA3", "feedforward_modules": []});
    let tensors = placed(&case(NOMIC, &[(FUSED, &[12, 4]), (bias, &[12])], config, tensors));
    for name in [FUSED, bias] {
        let of: Vec<Placed> = tensors.iter().filter(|t| t.name == name).cloned().collect();
        assert_eq!(portions(&of), [(0, 4, false), (4, 4, true), (8, 4, false)], "{name}");
    }
}

#[test]
fn rows_that_cross_a_portion_are_refused() {
    let fused: &[(&str, &[u64])] = &[
        ("base_model.model.encoder.layers.0.attn.Wqkv.lora_A.weight", &[2, 4]),
        ("base_model.model.encoder.layers.0.attn.Wqkv.lora_B.weight", &[12, 2]),
    ];
    let part: &[(&str, &[u64])] = &[
        ("base_model.model.layers.0.self_attn.q_proj.lora_A.weight", &[2, 4]),
        ("base_model.model.layers.0.self_attn.q_proj.lora_B.weight", &[4, 2]),
    ];
    let (kind, message) = case(NOMIC, &[(FUSED, &[12, 4])], json!({}), fused).adapter(json!({}), part).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(message.contains("as a whole, and then by portions"), "{message}");
}

/// Unsloth has a module for each expert of gpt-oss, whose weight is that of a linear.
#[test]
fn one_expert_that_is_stored_with_its_inputs_first_is_turned() {
    let base: &[(&str, &[u64])] = &[("model.layers.0.mlp.experts.down_proj", &[2, 5, 4])];
    for module in ["experts.1.down_proj", "experts.down_projs.1"] {
        let key = |part: &str| -> &'static str {
            Box::leak(format!("base_model.model.model.layers.0.mlp.{module}.{part}.weight").into_boxed_str())
        };
        let tensors: &[(&str, &[u64])] = &[(key("lora_A"), &[2, 5]), (key("lora_B"), &[4, 2])];
        let tensors = placed(&case("GptOssForCausalLM", base, json!({}), tensors));
        assert_eq!(portions(&tensors), [(0, 5, false), (5, 5, true)]);
        let (delta, _) = delta(&tensors[1]);
        assert!(delta.left.source.name.contains("lora_A"));
        assert_eq!((delta.left.view.rows, delta.right.view.cols), (5, 4));
    }
}

/// The tensors of a module, with their shapes.
type Parts<'a> = &'a [(&'static str, &'a [u64])];

/// The rows that a kind changes of the key projection, whose weight is the second third of a fused tensor.
fn key_changes(config: Value, parts: Parts<'_>) -> Vec<(u64, u64, bool)> {
    let key = |part: &str| -> &'static str {
        match part.starts_with("base_model") {
            true => Box::leak(part.to_owned().into_boxed_str()),
            false => Box::leak(format!("base_model.model.layers.0.self_attn.k_proj.{part}").into_boxed_str()),
        }
    };
    let tensors: Vec<_> = parts.iter().map(|(part, shape)| (key(part), *shape)).collect();
    portions(&placed(&case(NOMIC, &[(FUSED, &[12, 4])], config, &tensors)))
}

#[test]
fn a_kind_whose_delta_takes_its_size_from_the_weight_takes_rows_of_a_fused_tensor() {
    let kinds: [(Value, Parts<'_>); 4] = [
        (
            json!({"peft_type": "VERA", "r": 3}),
            &[
                ("vera_lambda_b", &[4]),
                ("vera_lambda_d", &[3]),
                ("base_model.vera_A", &[3, 4]),
                ("base_model.vera_B", &[4, 3]),
            ],
        ),
        (json!({"peft_type": "SHIRA", "r": 1}), &[("shira_weight", &[8]), ("shira_indices", &[2, 8])]),
        (json!({"peft_type": "OFT"}), &[("oft_R.weight", &[2, 1])]),
        (json!({"peft_type": "MISS", "r": 2}), &[("miss_block", &[2, 4])]),
    ];
    for (config, parts) in kinds {
        assert_eq!(key_changes(config.clone(), parts), [(0, 4, false), (4, 4, true), (8, 4, false)], "{config}");
    }
}

/// Molmo2's embedding is stored as old and new words. PEFT saves it whole beside a LoRA on it.
#[test]
fn a_saved_weight_that_is_stored_in_two_tensors_replaces_both() {
    let stored: &[(&str, &[u64])] = &[("wte.embedding", &[6, 4]), ("wte.new_embedding", &[2, 4])];
    let saved = |rows: &'static [u64]| {
        case("Molmo2TextModel", stored, json!({}), &[("base_model.model.embed_tokens.base_layer.weight", rows)])
    };
    let tensors = placed(&saved(&[8, 4]));
    let starts: Vec<(u64, u64)> = tensors.iter().map(|t| (t.recipe.starts()[0].offset, t.shape[0])).collect();
    let [(old, 6), (new, 2)] = starts[..] else { panic!("{starts:?}") };
    assert_eq!(new - old, 6 * 4 * 4, "the new words follow the old ones in the adapter's tensor");
    let (kind, text) = saved(&[9, 4]).refusal();
    assert!(kind == Kind::ShapeMismatch && text.contains("[9, 4]") && text.contains("8 rows"), "{text}");
}
