//! Quantised bases whose codes are not the weights of the model by themselves.

use super::*;
use crate::spec::Quantised;

/// One FP8 layer with a scale for each row, a plain layer, and what else is given.
fn case(config: Value, module: &'static str, more: &[(&'static str, &[u64])]) -> Case {
    let weight: &'static str = format!("{module}.weight").leak();
    let scale: &'static str = format!("{module}.weight_scale").leak();
    let base: &[(&'static str, &[u64])] = &[(weight, &[6, 6]), (scale, &[6, 1]), ("plain.weight", &[6, 6])];
    let parts =
        ["A", "B"].map(|part| -> &'static str { format!("base_model.model.{module}.lora_{part}.weight").leak() });
    let case =
        Case::new(config, &[base, more].concat()).adapter(json!({}), &[(parts[0], &[2, 6]), (parts[1], &[6, 2])]);
    Case { adjust: coded, ..case }
}

fn coded(_: &mut MergeSpec, inventory: &mut Inventory) {
    let tensors = &mut inventory.base.shards[0].tensors;
    tensors[0].dtype = Dtype::F8_E4M3;
}

fn dequantised(spec: &mut MergeSpec, inventory: &mut Inventory) {
    coded(spec, inventory);
    spec.quantised = Quantised::Dequantise;
}

fn config(model: &str, more: Value) -> Value {
    let mut held = json!({"quant_method": "compressed-tensors"});
    held.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"model_type": model, "torch_dtype": "bfloat16", "quantization_config": held})
}

/// That both ways to decode are refused as unsupported, with these words.
fn refused(case: &Case, says: &str) {
    let adjusts: [fn(&mut MergeSpec, &mut Inventory); 2] = [coded, dequantised];
    for adjust in adjusts {
        let (base, adapters, weights) = (case.base.clone(), case.adapters.clone(), case.weights.clone());
        let (kind, text) = Case { adjust, base, adapters, weights, ..Case::new(case.config.clone(), &[]) }.refusal();
        assert!(kind == Kind::Unsupported && text.contains(says), "{text}");
    }
}

/// The codes of a Conv1D are [out, in], and its weight is [in, out]: a square one would be merged transposed without a word.
#[test]
fn codes_of_a_conv1d_are_not_decoded() {
    refused(&case(config("gpt2", json!({})), "h.0.attn.c_proj", &[]), "is a Conv1D");
    assert!(case(config("gpt2", json!({})), "h.0.attn.other", &[]).plan().is_ok(), "another layer of the model is");
}

#[test]
fn codes_of_rotated_weights_are_not_decoded() {
    let rotated = config(LLAMA, json!({"transform_config": {"config_groups": {"r4": {"type": "hadamard"}}}}));
    refused(&case(rotated, "m.q_proj", &[]), "transform_config");
    let empty = config(LLAMA, json!({"transform_config": {}}));
    assert!(case(empty, "m.q_proj", &[]).plan().is_ok(), "none is named");
}

/// An unquantised model ignores the scales of AWQ's activations, so a model that has them must stay quantised.
#[test]
fn a_model_with_scaled_activations_stays_quantised() {
    let scales: &[(&'static str, &[u64])] = &[("m.act.scales", &[6])];
    refused(&case(config(LLAMA, json!({})), "m.q_proj", scales), "m.act.scales");
    let staying = [scales, &[("n.q_proj.weight", &[6, 6]), ("n.q_proj.weight_scale", &[6, 1])]].concat();
    let second = |spec: &mut MergeSpec, inventory: &mut Inventory| {
        coded(spec, inventory);
        inventory.base.shards[0].tensors[4].dtype = Dtype::F8_E4M3;
    };
    let case = Case { adjust: second, ..case(config(LLAMA, json!({})), "m.q_proj", &staying) };
    assert!(case.plan().is_ok(), "another weight stays");
}
