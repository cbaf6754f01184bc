//! `--base-as`: which weights become what a quantised layer made of them.

use super::*;
use crate::statistic::{self, StatisticId};

const UP: &str = "model.layers.0.mlp.up_proj.weight";
const GATE: &str = "model.layers.0.mlp.gate.weight";

fn model(class: &str, base_as: fn(&mut MergeSpec, &mut Inventory), more: &[(&'static str, &'static [u64])]) -> Case {
    let config = json!({"model_type": LLAMA, "architectures": [class], "tie_word_embeddings": false});
    let base: [(&str, &[u64]); 5] = [
        (E, &[10, 64]),
        ("model.layers.0.self_attn.q_proj.weight", &[6, 64]),
        ("model.layers.0.self_attn.q_proj.bias", &[6]),
        ("model.layers.0.input_layernorm.weight", &[64]),
        (HEAD, &[10, 64]),
    ];
    let case = Case::new(config, &[&base, more].concat());
    let q = [
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", &[2, 64][..]),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", &[6, 2]),
    ];
    Case { adjust: base_as, ..case.adapter(json!({}), &q) }
}

fn as_nf4(spec: &mut MergeSpec, inventory: &mut Inventory) {
    set(spec, inventory, "nf4");
}

fn as_double(spec: &mut MergeSpec, inventory: &mut Inventory) {
    set(spec, inventory, "nf4,double");
}

#[test]
fn scales_that_were_quantised_wait_for_their_sum() {
    let case = model("LlamaForCausalLM", as_double, &[(UP, &[8, 64])]);
    assert_eq!(
        starts(&case).into_iter().map(|(.., settings)| settings).collect::<Vec<_>>(),
        [[0, 64, 2, 0, 0, 6, 0], [0, 64, 2, 0, 0, 8, 1]]
    );
    let (plan, _) = case.plan().unwrap();
    let names: Vec<_> = plan.statistics.iter().map(|s| s.tensor.as_str()).collect();
    assert_eq!(names, ["model.layers.0.self_attn.q_proj.weight", UP]);
    assert!(plan.statistics.iter().all(|s| s.start.statistic().is_none() && s.steps.is_empty()));
    assert_eq!(case.recipe(UP).statistics().map(|id| id.0).collect::<Vec<_>>(), [1]);
}

#[test]
fn norms_of_columns_wait_for_the_sum_of_scales_too() {
    let config = json!({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]});
    let name = "h.0.attn.c_attn.weight";
    let base: [(&str, &[u64]); 2] = [("wte.weight", &[10, 64]), (name, &[64, 192])];
    let key = |part: &str| -> &'static str { format!("base_model.model.transformer.h.0.attn.c_attn.{part}").leak() };
    let dora: [(&str, &[u64]); 3] = [
        (key("lora_A.weight"), &[2, 64]),
        (key("lora_B.weight"), &[192, 2]),
        (key("lora_magnitude_vector.weight"), &[192]),
    ];
    let case = Case::new(config, &base).adapter(json!({"use_dora": true, "fan_in_fan_out": true}), &dora);
    let case = Case { adjust: as_double, ..case };
    let (plan, _) = case.plan().unwrap();
    let needs: Vec<_> = plan.statistics.iter().map(|s| (s.kind, s.needs.clone())).collect();
    let [(statistic::Kind::Scales(scales), none), (statistic::Kind::ColumnSquares, needed)] = &needs[..] else {
        panic!("{needs:?}")
    };
    assert!(scales.down && none.is_empty() && *needed == [StatisticId(0)], "{needs:?}");
    assert_eq!(case.recipe(name).statistics().map(|id| id.0).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn blocks_across_runs_of_rows_or_columns_have_no_sum_of_scales() {
    let long = |spec: &mut MergeSpec, inventory: &mut Inventory| set(spec, inventory, "nf4,block=4096,double");
    let case = |shape: &'static [u64]| model("LlamaForCausalLM", long, &[(UP, shape)]);
    assert!(case(&[1024, 63]).plan().is_ok() && case(&[2048, 64]).plan().is_ok());
    let (kind, text) = case(&[1025, 63]).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(text.contains(UP) && text.contains("[1025, 63]") && text.contains("blocks of 4096 values"), "{text}");
}

/// The dtype of all is bf16, since infinities are searched for in what is copied.
fn set(spec: &mut MergeSpec, inventory: &mut Inventory, text: &str) {
    spec.base_as = Some(text.parse().unwrap());
    inventory.base.shards[0].tensors.iter_mut().for_each(|tensor| tensor.dtype = Dtype::BF16);
}

/// The scheme that each computed tensor starts from, and its settings.
fn starts(case: &Case) -> Vec<(String, String, Vec<u64>)> {
    let (plan, _) = case.plan().unwrap();
    let tensors = plan.output.files.iter().flat_map(|f| &f.tensors);
    let computed = tensors.filter_map(|t| match &t.recipe {
        Recipe::Copy(_) | Recipe::Requantise(_) => None,
        Recipe::Fuse(fuse) => Some((t.name.clone(), serde_json::to_value(&fuse.start).unwrap())),
    });
    let settings = |start: &Value| serde_json::from_value(start["settings"].clone()).unwrap();
    computed.map(|(name, start)| (name, start["scheme"].as_str().unwrap().to_owned(), settings(&start))).collect()
}

#[test]
fn linear_weights_are_replaced_whether_they_are_touched_or_not() {
    let case = model("LlamaForCausalLM", as_nf4, &[(UP, &[8, 64])]);
    let scheme = || "seen through bitsandbytes".to_owned();
    let expected = [
        ("model.layers.0.self_attn.q_proj.weight".to_owned(), scheme(), vec![0, 64, 2, 0, 0, 6]),
        (UP.to_owned(), scheme(), vec![0, 64, 2, 0, 0, 8]),
    ];
    assert_eq!(starts(&case), expected);
    let Recipe::Fuse(untouched) = case.recipe(UP) else { panic!("it is computed") };
    assert!(untouched.steps.is_empty() && !untouched.keep_non_finite);
    let (_, report) = case.plan().unwrap();
    assert_eq!(report.seen, ["model.layers.0.self_attn.q_proj.weight", UP]);
    assert_eq!((report.tensors_changed, report.tensors_copied), (2, 4), "both are computed");
    assert!(report.notes.iter().any(|note| note.contains("2 weights of 1.8 kB")), "{:?}", report.notes);
    assert!(report.notes.iter().any(|note| note.contains("adapters do not say")), "{:?}", report.notes);
}

#[test]
fn what_is_named_overrides_what_is_known() {
    let named = |spec: &mut MergeSpec, inventory: &mut Inventory| {
        set(spec, inventory, "int8,from=f16,skip=up_proj,with=lm_head");
    };
    let found = starts(&model("LlamaForCausalLM", named, &[(UP, &[8, 64])]));
    let expected = [
        ("model.layers.0.self_attn.q_proj.weight", vec![2, 64, 1, 0, 0, 6]),
        (HEAD, vec![2, 64, 1, 0, 0, 10]),
        (UP, vec![]),
    ];
    // The head stands before the layer that is skipped, which is copied.
    assert_eq!(found.len(), 2);
    for ((name, _, settings), (wanted, of_it)) in found.iter().zip(&expected) {
        assert_eq!((name.as_str(), settings), (*wanted, of_it));
    }
    let none = |spec: &mut MergeSpec, inventory: &mut Inventory| set(spec, inventory, "nf4,skip=k_proj");
    let (kind, text) = model("LlamaForCausalLM", none, &[]).refusal();
    assert!(kind == Kind::Usage && text.contains("names k_proj, and the base has no matrix"), "{text}");
}

#[test]
fn what_cannot_be_told_is_refused_by_name() {
    let unknown: [(&str, &[u64]); 1] = [("model.layers.0.self_attn.table.weight", &[4, 4])];
    let (kind, text) = model("LlamaForCausalLM", as_nf4, &unknown).refusal();
    assert!(
        kind == Kind::Unsupported && text.contains("of 1 matrices of this class") && text.contains(unknown[0].0),
        "{text}"
    );
    let (kind, text) = model("HouseForCausalLM", as_nf4, &[]).refusal();
    assert!(kind == Kind::Unsupported && text.contains("of 3 matrices of a class that is not known"), "{text}");
    // transformers 5 stacks experts, and earlier releases had a linear layer for each.
    let experts: [(&str, &[u64]); 1] = [("model.layers.0.mlp.experts.0.up_proj.weight", &[4, 64])];
    let (kind, text) = model("Qwen3MoeForCausalLM", as_nf4, &experts).refusal();
    assert!(kind == Kind::Unsupported && text.contains(experts[0].0), "{text}");
    let told = |spec: &mut MergeSpec, inventory: &mut Inventory| set(spec, inventory, "nf4,with=mlp.experts");
    let told = starts(&model("Qwen3MoeForCausalLM", told, &experts));
    assert!(told.iter().any(|(name, ..)| name == experts[0].0), "{told:?}");
    // A router that is a parameter there, of a class that is not nn.Linear.
    let router = starts(&model("Qwen3MoeForCausalLM", as_nf4, &[(GATE, &[4, 64])]));
    assert!(router.iter().all(|(name, ..)| name != GATE), "{router:?}");
}

#[test]
fn a_layer_that_is_stored_as_its_transpose_is_seen_by_columns() {
    let config = json!({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]});
    let base: [(&str, &[u64]); 2] = [("wte.weight", &[10, 64]), ("h.0.attn.c_attn.weight", &[64, 192])];
    let rows: [(&str, &[u64]); 1] =
        [("base_model.model.transformer.wte.token_adapter.trainable_tokens_delta", &[1, 64])];
    let case = Case::new(config, &base).adapter(json!({"trainable_token_indices": [1]}), &rows);
    let found = starts(&Case { adjust: as_nf4, ..case });
    let seen: Vec<_> = found.iter().filter(|(_, scheme, _)| scheme.starts_with("seen")).collect();
    assert_eq!(
        seen,
        [&("h.0.attn.c_attn.weight".to_owned(), "seen through bitsandbytes".to_owned(), vec![0, 64, 2, 1, 0, 64])]
    );
}

#[test]
fn a_base_that_is_quantised_itself_is_refused() {
    let config =
        json!({"model_type": LLAMA, "quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 3]}});
    let base: [(&str, &[u64]); 2] = [("m.q_proj.weight", &[6, 6]), ("m.q_proj.weight_scale_inv", &[3, 2])];
    let adjust = |spec: &mut MergeSpec, inventory: &mut Inventory| {
        spec.base_as = Some("nf4".parse().unwrap());
        inventory.base.shards[0].tensors[0].dtype = Dtype::F8_E4M3;
    };
    let (kind, text) = Case { adjust, ..Case::new(config, &base).adapter(json!({}), &Q) }.refusal();
    assert!(
        kind == Kind::Conflict && text.contains("--base-as nf4") && text.contains("1 of its parameters as fp8"),
        "{text}"
    );
}
