//! Ties that the configuration, the values and the user tell differently, and vocabularies in odd places.

use super::*;

const PAIR: [(&str, &[u64]); 2] = [
    ("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 10]),
    ("base_model.model.model.embed_tokens.lora_embedding_B", &[6, 2]),
];

/// A model that is tied by its configuration and holds both embeddings.
fn case(adjust: fn(&mut MergeSpec, &mut Inventory)) -> Case {
    Case { adjust, ..tied(true).adapter(json!({}), &PAIR) }
}

fn tied_by(case: &Case) -> Value {
    config_of(case)["tie_word_embeddings"].clone()
}

#[test]
fn a_head_of_other_values_stays_as_it_is_and_the_configuration_says_so() {
    let differs = case(|_, i| i.base.compared = vec![compared(HEAD, false)]);
    assert!(matches!(differs.recipe(HEAD), Recipe::Copy(source) if source.name == HEAD));
    assert_eq!(differs.ops(E).len(), 1);
    assert_eq!(tied_by(&differs), false);
    let notes = differs.plan().unwrap().1.notes;
    assert!(notes.iter().any(|n| n.contains(HEAD) && n.contains("other values")), "{notes:?}");
}

#[test]
fn a_head_of_the_same_values_follows_the_embedding() {
    let same = case(|_, i| i.base.compared = vec![compared(HEAD, true)]);
    assert_eq!(same.ops(HEAD), same.ops(E));
    assert_eq!(tied_by(&same), true);
}

#[test]
fn a_head_that_nobody_compared_is_never_overwritten() {
    assert_eq!(case(|_, i| i.base.compared.clear()).refusal().0, Kind::Internal);
}

#[test]
fn an_adapter_that_leaves_the_embeddings_alone_leaves_the_configuration_alone() {
    let pair: [(&str, &[u64]); 2] =
        [("base_model.model.model.q.lora_A.weight", &[2, 6]), ("base_model.model.model.q.lora_B.weight", &[6, 2])];
    let other = Case { adjust: |_, i| i.base.compared.clear(), ..tied(true).adapter(json!({}), &pair) };
    assert_eq!(tied_by(&other), true);
}

#[test]
fn tied_false_is_obeyed_where_the_file_holds_both() {
    let untied = case(|spec, i| {
        spec.tied = Some(false);
        i.base.compared.clear();
    });
    assert!(matches!(untied.recipe(HEAD), Recipe::Copy(_)));
    assert_eq!(tied_by(&untied), false);
}

#[test]
fn tied_that_cannot_be_obeyed_is_refused() {
    let no_head = Case { adjust: |spec, _| spec.tied = Some(false), ..tied(false).adapter(json!({}), &PAIR) };
    let (kind, text) = no_head.refusal();
    assert!(kind == Kind::Conflict && text.contains("--tied false") && text.contains(HEAD), "{text}");
    let differs = case(|spec, i| {
        spec.tied = Some(true);
        i.base.compared = vec![compared(HEAD, false)];
    });
    let (kind, text) = differs.refusal();
    assert!(kind == Kind::Conflict && text.contains("--tied true"), "{text}");
    let two = Case::new(json!({"model_type": LLAMA}), &[(E, &[10, 6]), (HEAD, &[10, 6])]).adapter(json!({}), &PAIR);
    assert_eq!(Case { adjust: |spec, _| spec.tied = Some(true), ..two }.refusal().0, Kind::Conflict);
    let unnamed = Case { adjust: |spec, _| spec.tied = Some(true), ..linear().adapter(json!({}), &Q) };
    assert_eq!(unnamed.refusal().0, Kind::Conflict);
}

#[test]
fn an_unknown_class_is_untied_by_values_that_differ() {
    let base = Case::new(json!({"model_type": "unheard_of"}), &[(E, &[10, 6]), (HEAD, &[10, 6])]);
    let case = base.adapter(json!({}), &PAIR);
    assert_eq!(case.refusal().0, Kind::BadConfig, "equal values do not tell");
    let differs = Case { adjust: |_, i| i.base.compared = vec![compared(HEAD, false)], ..case };
    assert!(matches!(differs.recipe(HEAD), Recipe::Copy(_)));
    assert_eq!(tied_by(&differs), Value::Null, "the configuration said nothing and stays");
}

#[test]
fn only_a_base_that_may_be_tied_and_whose_embeddings_change_is_compared() {
    use crate::effort::Cancel;
    use crate::plan::copies::to_compare;
    let compared = |case: &Case, asked: Option<bool>| {
        let (_, inventory) = case.inputs().unwrap();
        let pairs = to_compare(&inventory.base, &inventory.adapters, asked, Cancel::default()).unwrap();
        pairs.iter().map(|(a, b)| (a.name.clone(), b.name.clone())).collect::<Vec<_>>()
    };
    let both = vec![(E.to_owned(), HEAD.to_owned())];
    let case = tied(true).adapter(json!({}), &PAIR);
    assert_eq!(compared(&case, None), both);
    assert_eq!(compared(&case, Some(true)), both);
    let none = Vec::new();
    assert_eq!(compared(&case, Some(false)), none);
    assert_eq!(compared(&tied(false).adapter(json!({}), &PAIR), None), none, "there is no head in the file");
    let head: [(&str, &[u64]); 2] =
        [("base_model.model.lm_head.lora_A.weight", &[2, 6]), ("base_model.model.lm_head.lora_B.weight", &[10, 2])];
    assert_eq!(compared(&tied(true).adapter(json!({}), &head), None), both);
    let other: [(&str, &[u64]); 2] =
        [("base_model.model.model.q.lora_A.weight", &[2, 6]), ("base_model.model.model.q.lora_B.weight", &[6, 2])];
    assert_eq!(compared(&tied(true).adapter(json!({}), &other), None), none);
    let two = Case::new(json!({"model_type": LLAMA}), &[(E, &[10, 6]), (HEAD, &[10, 6])]).adapter(json!({}), &PAIR);
    assert_eq!(compared(&two, None), none, "not tied by its class");
}

#[test]
fn an_embedding_that_is_no_matrix_is_refused_by_name() {
    let scalar =
        Case::new(json!({"model_type": LLAMA}), &[(E, &[]), ("m.q_proj.weight", &[6, 6])]).adapter(json!({}), &Q);
    let (kind, text) = scalar.refusal();
    assert_eq!(kind, Kind::ShapeMismatch);
    assert!(text.contains(E), "{text}");
}

fn grown(config: Value, prefix: &str) -> Case {
    let name = |text: String| -> &'static str { String::leak(text) };
    let names = ["embed_tokens", "lm_head"].map(|module| match module {
        "embed_tokens" => format!("{prefix}.model.embed_tokens.weight"),
        _ => format!("{prefix}.lm_head.weight"),
    });
    let base: Vec<(&'static str, &[u64])> = names.iter().map(|n| (name(n.clone()), &[10u64, 6][..])).collect();
    let saved: Vec<(&'static str, &[u64])> =
        names.iter().map(|n| (name(format!("base_model.model.{n}")), &[12u64, 6][..])).collect();
    Case::new(config, &base).adapter(json!({"modules_to_save": ["embed_tokens", "lm_head"]}), &saved)
}

#[test]
fn a_grown_vocabulary_is_written_where_the_language_model_has_its_own() {
    for (config, prefix, pointer) in [
        (json!({"tie_word_embeddings": false, "llm_config": {"vocab_size": 10}}), "language_model", "/llm_config"),
        (json!({"tie_word_embeddings": false, "language_config": {"vocab_size": 10}}), "language", "/language_config"),
        (json!({"thinker_config": {"text_config": {"vocab_size": 10}}}), "thinker", "/thinker_config/text_config"),
    ] {
        let written = config_of(&grown(config, prefix));
        assert_eq!(written.pointer(pointer).unwrap()["vocab_size"], 12, "{written}");
        assert!(written.get("vocab_size").is_none(), "{written}");
    }
}

#[test]
fn a_grown_embedding_that_the_configuration_does_not_know_is_refused() {
    let (kind, text) = grown(json!({"vocab_size": 11}), "odd").refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(text.contains("odd.") && text.contains("vocab_size"), "{text}");
}

/// An untied model with 10 rows in both embeddings.
fn padded() -> Case {
    let base: [(&str, &[u64]); 2] = [(E, &[10, 6]), (HEAD, &[10, 6])];
    Case::new(json!({"model_type": LLAMA, "tie_word_embeddings": false, "vocab_size": 10}), &base)
}

const SAVED_E: &str = "base_model.model.model.embed_tokens.modules_to_save.weight";
const SAVED_HEAD: &str = "base_model.model.lm_head.modules_to_save.weight";

#[test]
fn an_adapter_cuts_the_padding_of_the_base_from_both_embeddings() {
    let cut = padded().adapter(json!({}), &[(SAVED_E, &[7, 6]), (SAVED_HEAD, &[7, 6])]);
    assert_eq!(config_of(&cut)["vocab_size"], 7);
    let warnings = cut.plan().unwrap().1.warnings;
    for name in [E, HEAD] {
        assert!(warnings.iter().any(|w| w.contains(name) && w.contains("the last 3 rows")), "{name}: {warnings:?}");
    }
    let resized = "base_model.model.model.embed_tokens.base_layer.weight";
    let tied = tied(false).adapter(json!({}), &[(resized, &[7, 6])]);
    assert_eq!(config_of(&tied)["vocab_size"], 7, "the output embedding of a tied model goes with it");
}

#[test]
fn padding_that_only_one_embedding_loses_is_refused() {
    for (one, other) in [(SAVED_E, HEAD), (SAVED_HEAD, E)] {
        let (kind, text) = padded().adapter(json!({}), &[(one, &[7, 6])]).refusal();
        assert_eq!(kind, Kind::ShapeMismatch);
        assert!(text.contains(other) && text.contains('7') && text.contains("10"), "{text}");
    }
}

#[test]
fn an_adapter_that_cuts_what_an_earlier_one_changed_is_refused() {
    let smaller: [(&str, &[u64]); 2] = [(SAVED_E, &[7, 6]), (SAVED_HEAD, &[7, 6])];
    for earlier in [vec![(SAVED_E, &[10u64, 6][..]), (SAVED_HEAD, &[10, 6])], PAIR.to_vec()] {
        let (kind, text) = padded().adapter(json!({}), &earlier).adapter(json!({}), &smaller).refusal();
        assert_eq!(kind, Kind::ShapeMismatch);
        assert!(text.contains("[7, 6]") && text.contains("[10, 6]"), "{text}");
    }
}
