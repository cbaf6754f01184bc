//! Tied embeddings, token rows and a vocabulary that grows.

use super::*;

#[test]
fn token_rows_of_a_tied_model_change_both_sides_and_it_stays_tied() {
    let rows: [(&str, &[u64]); 1] =
        [("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", &[2, 6])];
    let case = tied(true).adapter(json!({"trainable_token_indices": [1, 9]}), &rows);
    assert_eq!(case.ops(E), case.ops("lm_head.weight"));
    assert!(matches!(&case.ops(E)[..], [Op::SetRows(set)] if set.rows == [1, 9]));
    assert_eq!(config_of(&case)["tie_word_embeddings"], true);
}

#[test]
fn overlapping_token_rows_of_two_adapters_are_a_conflict() {
    let rows: [(&str, &[u64]); 1] =
        [("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", &[2, 6])];
    let case = tied(false)
        .adapter(json!({"trainable_token_indices": [1, 9]}), &rows)
        .adapter(json!({"trainable_token_indices": [9, 3]}), &rows);
    let (kind, text) = case.refusal();
    assert_eq!(kind, Kind::Conflict);
    assert!(text.contains("row 9") && text.contains("adapters 1 and 2"), "{text}");
    let out_of_range = tied(false).adapter(json!({"trainable_token_indices": [1, 10]}), &rows).refusal();
    assert_eq!(out_of_range.0, Kind::ShapeMismatch);
}

#[test]
fn a_delta_that_both_tied_sides_carry_is_applied_once_and_checked() {
    let both: [(&str, &[u64]); 4] = [
        ("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 10]),
        ("base_model.model.model.embed_tokens.lora_embedding_B", &[6, 2]),
        ("base_model.model.lm_head.lora_A.weight", &[2, 6]),
        ("base_model.model.lm_head.lora_B.weight", &[10, 2]),
    ];
    let case = tied(false).adapter(json!({"ensure_weight_tying": true}), &both);
    let (plan, _) = case.plan().unwrap();
    assert_eq!(case.ops(E).len(), 1);
    assert_eq!(
        plan.equals.iter().map(|e| (e.left.name.ends_with("_A"), e.transposed)).collect::<Vec<_>>(),
        [(true, true), (false, true)]
    );
    assert!(!plan.output.files[0].tensors.iter().any(|t| t.name == "lm_head.weight"));
    // Without the promise the two sides are two tensors.
    let case = tied(false).adapter(json!({}), &both);
    assert_eq!((case.ops(E).len(), case.ops("lm_head.weight").len()), (1, 1));
    assert_eq!(config_of(&case)["tie_word_embeddings"], false);
}

#[test]
fn a_delta_on_the_tied_embedding_alone_serves_both_sides() {
    let pair: [(&str, &[u64]); 2] = [
        ("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 10]),
        ("base_model.model.model.embed_tokens.lora_embedding_B", &[6, 2]),
    ];
    let case = tied(true).adapter(json!({}), &pair);
    assert_eq!(case.ops(E), case.ops("lm_head.weight"));
    assert_eq!(config_of(&case)["tie_word_embeddings"], true);
}

#[test]
fn a_grown_vocabulary_needs_both_embeddings_and_sets_the_config() {
    let base =
        Case::new(json!({"model_type": LLAMA, "vocab_size": 10}), &[(E, &[10, 6]), ("lm_head.weight", &[10, 6])]);
    let one: [(&str, &[u64]); 1] = [("base_model.model.model.embed_tokens.modules_to_save.weight", &[12, 6])];
    let both: [(&str, &[u64]); 2] = [one[0], ("base_model.model.lm_head.modules_to_save.default.weight", &[12, 6])];
    let case = base.adapter(json!({"modules_to_save": ["embed_tokens", "lm_head"]}), &both);
    assert_eq!(config_of(&case)["vocab_size"], 12);
    assert_eq!(case.plan().unwrap().1.vocabulary, Some((10, 12)));
    let uneven =
        Case::new(json!({"model_type": LLAMA, "vocab_size": 10}), &[(E, &[10, 6]), ("lm_head.weight", &[10, 6])])
            .adapter(json!({}), &one);
    assert_eq!(uneven.refusal().0, Kind::ShapeMismatch);
}

#[test]
fn an_unknown_class_is_asked_whether_it_is_tied_only_where_it_matters() {
    let base = || {
        Case::new(
            json!({"model_type": "unheard_of"}),
            &[(E, &[10, 6]), ("lm_head.weight", &[10, 6]), ("m.q_proj.weight", &[6, 6])],
        )
    };
    assert!(base().adapter(json!({}), &Q).plan().is_ok());
    let head: [(&str, &[u64]); 2] =
        [("base_model.model.lm_head.lora_A.weight", &[2, 6]), ("base_model.model.lm_head.lora_B.weight", &[10, 2])];
    assert_eq!(base().adapter(json!({}), &head).refusal().0, Kind::BadConfig);
}
