//! Sets of names that are one parameter: by their class, and by one storage of a PyTorch file.

use super::*;

const SHARED: &str = "shared.weight";
const FOUR: [&str; 4] = [SHARED, "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", HEAD];
const LORA: [(&str, &[u64]); 2] =
    [("base_model.model.shared.lora_embedding_A", &[2, 10]), ("base_model.model.shared.lora_embedding_B", &[6, 2])];

/// A T5 that stores these names.
fn t5(names: &[&'static str], tensors: &[(&'static str, &[u64])]) -> Case {
    let base: Vec<(&'static str, &[u64])> = names.iter().map(|name| (*name, &[10u64, 6][..])).collect();
    let config =
        json!({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "tie_word_embeddings": true});
    Case { adjust: |_, i| i.base.compared = all_the_same(i), ..Case::new(config, &base).adapter(json!({}), tensors) }
}

fn comparison(left: &str, right: &str, same: bool) -> Comparison {
    Comparison { left: left.into(), right: right.into(), same, read: 240 }
}

/// Every copy of the first tensor was compared, and is equal.
fn all_the_same(inventory: &Inventory) -> Vec<Comparison> {
    let tensors = &inventory.base.shards[0].tensors;
    tensors[1..].iter().map(|tensor| comparison(&tensors[0].name, &tensor.name, true)).collect()
}

fn stored(case: &Case) -> Vec<String> {
    let files = case.plan().unwrap().0.output.files;
    files.iter().flat_map(|file| &file.tensors).map(|tensor| tensor.name.clone()).collect()
}

fn notes(case: &Case) -> String {
    case.plan().unwrap().1.notes.join("\n")
}

#[test]
fn every_stored_copy_gets_what_one_name_gets_and_no_other_name_appears() {
    let case = t5(&FOUR, &LORA);
    for name in FOUR {
        assert_eq!((case.ops(name).len(), case.ops(name)), (1, case.ops(SHARED)), "{name}");
    }
    assert!(notes(&case).contains("decoder.embed_tokens.weight holds the same values as shared.weight (240 B"));
    assert_eq!(stored(&t5(&[SHARED], &LORA)), [SHARED]);
}

#[test]
fn a_name_that_is_not_stored_changes_the_one_that_is() {
    let encoder: [(&str, &[u64]); 2] = [
        ("base_model.model.encoder.embed_tokens.lora_embedding_A", &[2, 10]),
        ("base_model.model.encoder.embed_tokens.lora_embedding_B", &[6, 2]),
    ];
    let case = t5(&[SHARED], &encoder);
    assert_eq!((case.ops(SHARED).len(), stored(&case).len()), (1, 1));
    let without_source = t5(&["encoder.embed_tokens.weight"], &LORA);
    assert_eq!((without_source.ops("encoder.embed_tokens.weight").len(), stored(&without_source).len()), (1, 1));
}

#[test]
fn copies_that_differ_stay_and_the_others_are_one() {
    let mut case = t5(&FOUR, &LORA);
    case.adjust = |_, i| {
        i.base.compared = all_the_same(i);
        i.base.compared[2].same = false;
    };
    assert!(matches!(case.recipe(HEAD), Recipe::Copy(source) if source.name == HEAD));
    assert_eq!(case.ops(FOUR[2]), case.ops(SHARED));
    let said =
        "tied by its class, but lm_head.weight holds other values than shared.weight: they stay tensors of their own";
    assert!(notes(&case).contains(said), "{}", notes(&case));
    assert_eq!(config_of(&case)["tie_word_embeddings"], true, "T5 scales by this key and does not tie by it");
    case.adjust = |_, i| i.base.compared = all_the_same(i).split_off(1);
    assert_eq!(case.refusal().0, Kind::Internal, "one copy was not compared");
}

#[test]
fn a_part_of_a_set_that_always_holds_takes_only_its_own_name_out() {
    let saved: [(&str, &[u64]); 1] = [("base_model.model.lm_head.weight", &[10, 6])];
    let mut case = t5(&[SHARED], &saved);
    case.adapters[0].0 = json!({"modules_to_save": ["lm_head"]});
    assert_eq!(stored(&case), [SHARED, HEAD]);
    assert!(matches!(case.recipe(SHARED), Recipe::Copy(_)));
    assert_eq!(config_of(&case)["tie_word_embeddings"], true);
    let two = Case { adjust: |_, _| (), ..case.adapter(json!({}), &LORA) };
    assert_eq!(
        (two.ops(SHARED).len(), two.ops(HEAD).len()),
        (1, 0),
        "the second adapter meets what is left of the set"
    );
}

#[test]
fn a_set_that_config_json_unties_is_written_whole_with_every_other_set() {
    let words = "bert.embeddings.word_embeddings.weight";
    let decoder: [(&str, &[u64]); 2] = [
        ("base_model.model.cls.predictions.decoder.lora_A.weight", &[2, 6]),
        ("base_model.model.cls.predictions.decoder.lora_B.weight", &[10, 2]),
    ];
    let config = json!({"architectures": ["BertForMaskedLM"]});
    let case = Case::new(config, &[(words, &[10, 6]), ("cls.predictions.bias", &[10])]).adapter(json!({}), &decoder);
    let names = [words, "cls.predictions.bias", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"];
    assert_eq!(stored(&case), names);
    assert!(matches!(case.recipe(names[3]), Recipe::Copy(source) if source.name == names[1]));
    assert_eq!(config_of(&case)["tie_word_embeddings"], false);
}

#[test]
fn one_storage_is_a_tie_unless_config_json_or_the_user_says_otherwise() {
    let one_place = |_: &mut MergeSpec, inventory: &mut Inventory| {
        inventory.base.shards[0].tensors.iter_mut().for_each(|tensor| tensor.offset = 64);
    };
    let base: [(&str, &[u64]); 2] = [("m.q_proj.weight", &[6, 6]), ("m.v_proj.weight", &[6, 6])];
    let case = |config: Value| Case { adjust: one_place, ..Case::new(config, &base).adapter(json!({}), &Q) };
    let tied = case(json!({"model_type": "unheard_of"}));
    assert_eq!((tied.ops(base[1].0).len(), tied.ops(base[1].0)), (1, tied.ops(base[0].0)));
    let untied = case(json!({"model_type": "unheard_of", "tie_word_embeddings": false}));
    assert_eq!((untied.ops(base[0].0).len(), untied.ops(base[1].0).len()), (1, 0));
    let asked = Case {
        adjust: |spec, inventory| {
            inventory.base.shards[0].tensors.iter_mut().for_each(|tensor| tensor.offset = 64);
            spec.tied = Some(false);
        },
        ..case(json!({"model_type": "unheard_of"}))
    };
    assert_eq!((asked.ops(base[0].0).len(), asked.ops(base[1].0).len()), (1, 0));
    let apart = Case { adjust: |_, _| (), ..case(json!({"model_type": "unheard_of"})) };
    assert_eq!(apart.ops(base[1].0).len(), 0, "equal values alone are no tie");
}

#[test]
fn tied_is_obeyed_or_refused_for_a_set_too() {
    let asked = |names: &[&'static str], adjust| Case { adjust, ..t5(names, &LORA) };
    let (kind, text) = asked(&[SHARED], |spec, _| spec.tied = Some(false)).refusal();
    assert!(kind == Kind::Conflict && text.contains("holds no decoder.embed_tokens.weight of its own"), "{text}");
    let apart = asked(&FOUR, |spec, _| spec.tied = Some(false));
    assert_eq!((apart.ops(SHARED).len(), apart.ops(HEAD).len()), (1, 0));
    assert_eq!(config_of(&apart)["tie_word_embeddings"], true);
    let differs = asked(&FOUR, |spec, i| {
        spec.tied = Some(true);
        i.base.compared = vec![comparison(SHARED, HEAD, false)];
    });
    let (kind, text) = differs.refusal();
    assert!(
        kind == Kind::Conflict && text.contains("shared.weight and lm_head.weight hold different values"),
        "{text}"
    );
}

#[test]
fn only_copies_of_a_set_that_changes_are_compared_and_not_those_of_one_place() {
    use crate::effort::Cancel;
    use crate::plan::copies::to_compare;
    let compared = |case: &Case| {
        let (_, inventory) = case.inputs().unwrap();
        to_compare(&inventory.base, &inventory.adapters, None, Cancel::default())
            .unwrap()
            .iter()
            .map(|(_, right)| right.name.clone())
            .collect()
    };
    let names: Vec<String> = compared(&t5(&FOUR, &LORA));
    assert_eq!(names, [FOUR[2], FOUR[1], HEAD]);
    let wrapped: [(&str, &[u64]); 2] = [
        ("_orig_mod.base_model.model.shared.lora_embedding_A", &[2, 10]),
        ("_orig_mod.base_model.model.shared.lora_embedding_B", &[6, 2]),
    ];
    assert_eq!(compared(&t5(&FOUR, &wrapped)).len(), 3, "the keys of wrappers count too");
    let one_place = |_: &mut MergeSpec, inventory: &mut Inventory| {
        inventory.base.shards[0].tensors.iter_mut().for_each(|tensor| tensor.offset = 64);
    };
    let bin = Case { adjust: one_place, ..t5(&FOUR, &LORA) };
    assert!(compared(&bin).is_empty());
    assert_eq!(bin.ops(HEAD), bin.ops(SHARED));
    assert_eq!(bin.ops(HEAD).len(), 1);
}
