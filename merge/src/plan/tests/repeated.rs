//! Parts of a model that are one: an encoder that has the decoder's layers, layers that share one block.

use super::*;

const ENCODER: &str = "model.encoder.language_model.layers.1.self_attn.q_proj.weight";
const DECODER: &str = "model.decoder.layers.1.self_attn.q_proj.weight";
const OF_ENCODER: [(&str, &[u64]); 2] = [
    ("base_model.model.model.encoder.language_model.layers.1.self_attn.q_proj.lora_A.weight", &[2, 6]),
    ("base_model.model.model.encoder.language_model.layers.1.self_attn.q_proj.lora_B.weight", &[4, 2]),
];
const OF_DECODER: [(&str, &[u64]); 2] = [
    ("base_model.model.model.decoder.layers.1.self_attn.q_proj.lora_A.weight", &[2, 6]),
    ("base_model.model.model.decoder.layers.1.self_attn.q_proj.lora_B.weight", &[4, 2]),
];

fn diffusion(stored: &[&'static str], tensors: &[(&'static str, &[u64])]) -> Case {
    let base: Vec<(&'static str, &[u64])> = stored.iter().map(|name| (*name, &[4u64, 6][..])).collect();
    let config = json!({"architectures": ["DiffusionGemmaForBlockDiffusion"]});
    Case::new(config, &base).adapter(json!({}), tensors)
}

fn told(same: bool) -> Comparison {
    Comparison { left: DECODER.into(), right: ENCODER.into(), same, read: 96 }
}

/// The names of the left factors of what is done to a parameter, in order.
fn factors(case: &Case, name: &str) -> Vec<String> {
    let of = |op: &Op| op.sources().next().map_or_else(String::new, |source| source.name.clone());
    case.ops(name).iter().map(of).collect()
}

fn stored(case: &Case) -> Vec<String> {
    let files = case.plan().unwrap().0.output.files;
    files.iter().flat_map(|file| &file.tensors).map(|tensor| tensor.name.clone()).collect()
}

#[test]
fn what_is_changed_under_two_names_is_laid_onto_the_one_tensor_as_the_class_registers_them() {
    let both: Vec<_> = OF_DECODER.into_iter().chain(OF_ENCODER).collect();
    let case = diffusion(&[DECODER], &both);
    let [first, second] = &factors(&case, DECODER)[..] else { panic!("{:?}", factors(&case, DECODER)) };
    assert!(first.contains("encoder") && second.contains("decoder"), "{first} {second}");
    assert_eq!(stored(&case), [DECODER], "the other name is not written");
    let warnings = case.plan().unwrap().1.warnings.join("\n");
    assert!(warnings.contains("as PEFT's merge does") && warnings.contains(DECODER), "{warnings}");
    let one = diffusion(&[DECODER], &OF_ENCODER);
    assert_eq!((one.ops(DECODER).len(), stored(&one).len()), (1, 1));
    let report = one.plan().unwrap().1;
    assert!(report.warnings.iter().all(|warning| !warning.contains("PEFT's merge")));
    assert!(report.notes.iter().any(|note| note.contains("all of them change: ") && note.contains(DECODER)));
}

#[test]
fn a_stored_copy_gets_the_same_and_one_with_other_values_its_own() {
    let both: Vec<_> = OF_DECODER.into_iter().chain(OF_ENCODER).collect();
    let mut case = diffusion(&[DECODER, ENCODER], &both);
    assert_eq!(case.refusal().0, Kind::Internal, "they must be compared before");
    case.adjust = |_, i| i.base.compared = vec![told(true)];
    assert_eq!((case.ops(DECODER).len(), case.ops(ENCODER)), (2, case.ops(DECODER)));
    case.adjust = |_, i| i.base.compared = vec![told(false)];
    assert_eq!((case.ops(DECODER).len(), case.ops(ENCODER).len()), (1, 1));
    assert!(factors(&case, ENCODER)[0].contains("encoder"));
    case.config["tie_word_embeddings"] = json!(false);
    case.adjust = |_, _| ();
    assert_eq!((case.ops(DECODER).len(), case.ops(ENCODER).len()), (1, 1), "config.json unties them too");
}

/// A LoRA on the query of the shared block of a layer.
fn of_layer(tensors: [&'static str; 2]) -> [(&'static str, &'static [u64]); 2] {
    [(tensors[0], &[2, 6]), (tensors[1], &[4, 2])]
}

#[test]
fn layers_take_the_blocks_of_the_first_ones_in_turn() {
    let mut base: Vec<(&'static str, &[u64])> = vec![
        ("model.layers.1.linear.weight", &[6, 6]),
        ("model.layers.3.linear.weight", &[6, 6]),
        ("model.layers.10.linear.weight", &[6, 6]),
        ("model.layers.1.shared_transformer.self_attn.q_proj.weight", &[4, 6]),
        ("model.layers.3.shared_transformer.self_attn.q_proj.weight", &[4, 6]),
    ];
    let (first, second) = (base[3].0, base[4].0);
    let third = of_layer([
        "base_model.model.model.layers.10.shared_transformer.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.10.shared_transformer.self_attn.q_proj.lora_B.weight",
    ]);
    let config = json!({"architectures": ["Zamba2ForCausalLM"]});
    let case = Case::new(config.clone(), &base).adapter(json!({}), &third);
    assert_eq!((case.ops(first).len(), case.ops(second).len()), (1, 0), "two blocks: the third layer has the first");
    let one_block = Case::new(config.clone(), &base[..4]).adapter(json!({}), &third);
    assert_eq!(one_block.ops(first).len(), 1);
    base.push(("model.layers.10.shared_transformer.self_attn.q_proj.weight", &[4, 6]));
    let apart = Case::new(config.clone(), &base).adapter(json!({}), &third);
    assert_eq!((apart.ops(first).len(), apart.ops(base[5].0).len()), (0, 1), "each layer has a block of its own");
    let other = of_layer([
        "base_model.model.model.layers.2.shared_transformer.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.2.shared_transformer.self_attn.q_proj.lora_B.weight",
    ]);
    let missing = Case::new(config, &base[..5]).adapter(json!({}), &other);
    assert_eq!(missing.refusal().0, Kind::UnmatchedKeys, "a layer without such a block");
}
