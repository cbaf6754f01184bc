//! Heads that an adapter brings and the base lacks.

use super::*;

const SCORE: (&str, &[u64]) = ("base_model.model.score.weight", &[5, 6]);

fn llama(adapter: Value, tensors: &[(&'static str, &[u64])]) -> Case {
    let config = json!({"model_type": LLAMA, "architectures": ["LlamaForCausalLM"]});
    let base: [(&str, &[u64]); 3] = [(E, &[10, 6]), ("m.q_proj.weight", &[6, 6]), (HEAD, &[10, 6])];
    let mut all = json!({"modules_to_save": ["classifier", "score"]});
    all.as_object_mut().unwrap().extend(adapter.as_object().unwrap().clone());
    let pair = [Q[0], Q[1]];
    Case::new(config, &base).adapter(all, &[&pair, tensors].concat())
}

#[test]
fn the_task_tells_the_class_and_the_head_is_added_with_its_labels() {
    let case = llama(json!({"task_type": "SEQ_CLS"}), &[SCORE]);
    assert!(matches!(case.recipe("score.weight"), Recipe::Fuse(fuse) if fuse.start_adapter == Some(0)));
    assert!(matches!(case.recipe(HEAD), Recipe::Copy(_)));
    let config = config_of(&case);
    assert_eq!(config["architectures"], json!(["LlamaForSequenceClassification"]));
    assert_eq!((&config["num_labels"], &config["id2label"]["4"]), (&json!(5), &json!("LABEL_4")));
    assert_eq!(config["label2id"]["LABEL_0"], 0);
    let notes = case.plan().unwrap().1.notes.join("\n");
    assert!(notes.contains("adds the head that the base lacks: score.weight [5, 6]"), "{notes}");
    assert!(notes.contains("lm_head.weight stays in the output, and LlamaForSequenceClassification does not use it"));
}

#[test]
fn labels_that_have_names_keep_them() {
    let mut case = llama(json!({"task_type": "SEQ_CLS"}), &[SCORE]);
    let names: Value =
        (0..5).map(|id| (id.to_string(), json!(format!("class {id}")))).collect::<serde_json::Map<_, _>>().into();
    case.config["id2label"] = names.clone();
    assert_eq!(config_of(&case)["id2label"], names);
    case.config["id2label"] = json!({"0": "no", "1": "yes"});
    assert_eq!(config_of(&case)["id2label"]["0"], "LABEL_0", "other labels than the head's");
}

#[test]
fn without_a_task_the_head_is_refused_by_name_with_both_ways_out() {
    for config in [json!({}), json!({"task_type": "CAUSAL_LM"})] {
        let error = llama(config, &[SCORE]).plan().unwrap_err();
        assert_eq!(error.kind(), Kind::UnmatchedKeys);
        assert!(error.message().contains("brings a new head that the base lacks (score.weight)"), "{error}");
        let hint = error.advice().unwrap();
        assert!(hint.contains("--architecture") && hint.contains("a base that has it"), "{hint}");
    }
    let named = Case {
        adjust: |spec, _| spec.architecture = Some("LlamaForSequenceClassification".into()),
        ..llama(json!({}), &[SCORE])
    };
    assert_eq!(config_of(&named)["num_labels"], 5);
}

#[test]
fn a_class_that_has_no_such_head_is_refused_and_one_that_nobody_knows_is_taken() {
    let head: [(&str, &[u64]); 1] = [("base_model.model.v_head.summary.weight", &[1, 6])];
    let case = |task: Value| llama(json!({"modules_to_save": ["v_head"], "task_type": task}), &head);
    let (kind, text) = case(json!("SEQ_CLS")).refusal();
    assert_eq!(kind, Kind::UnmatchedKeys);
    assert!(text.contains("v_head.summary.weight") && text.contains("its head is score.weight"), "{text}");
    let own = Case { adjust: |spec, _| spec.architecture = Some("MyValueModel".into()), ..case(Value::Null) };
    assert_eq!(config_of(&own)["architectures"], json!(["MyValueModel"]));
    assert_eq!(config_of(&own)["num_labels"], Value::Null, "which tensor counts labels is not known");
    assert!(matches!(own.recipe("v_head.summary.weight"), Recipe::Fuse(_)));
}

#[test]
fn a_part_of_a_head_is_a_warning_and_a_weight_on_it_a_conflict() {
    let tokens = llama(json!({"task_type": "TOKEN_CLS"}), &[SCORE]);
    let warnings = tokens.plan().unwrap().1.warnings.join("\n");
    assert!(warnings.contains("LlamaForTokenClassification has score.bias too"), "{warnings}");
    let mut half = llama(json!({"task_type": "SEQ_CLS"}), &[SCORE]);
    half.weights = vec![0.5];
    assert_eq!(half.refusal().0, Kind::Conflict);
}

#[test]
fn a_task_whose_head_nobody_holds_is_a_warning() {
    let warnings = |case: &Case| case.plan().unwrap().1.warnings.join("\n");
    let lacks = "neither it nor the base holds the head of LlamaForSequenceClassification (score.weight)";
    let bare = llama(json!({"task_type": "SEQ_CLS"}), &[]);
    assert!(warnings(&bare).contains(lacks), "{}", warnings(&bare));
    let after = llama(json!({"task_type": "SEQ_CLS"}), &[SCORE]).adapter(json!({"task_type": "SEQ_CLS"}), &Q);
    for held in [llama(json!({"task_type": "SEQ_CLS"}), &[SCORE]), after, llama(json!({"task_type": "CAUSAL_LM"}), &[])]
    {
        assert!(!warnings(&held).contains("neither it nor the base"), "{}", warnings(&held));
    }
}

#[test]
fn a_second_adapter_meets_the_head_of_the_first() {
    let config = json!({"modules_to_save": ["score"], "task_type": "SEQ_CLS"});
    let two = llama(json!({"task_type": "SEQ_CLS"}), &[SCORE]).adapter(config, &[SCORE]);
    assert!(matches!(two.recipe("score.weight"), Recipe::Fuse(fuse) if fuse.start_adapter == Some(1)));
    let other = json!({"modules_to_save": ["qa_outputs"], "task_type": "QUESTION_ANS"});
    let answers: [(&str, &[u64]); 1] = [("base_model.model.qa_outputs.weight", &[2, 6])];
    let (kind, text) = llama(json!({"task_type": "SEQ_CLS"}), &[SCORE]).adapter(other, &answers).refusal();
    assert!(kind == Kind::Conflict && text.contains("LlamaForQuestionAnswering"), "{text}");
}

#[test]
fn an_architecture_that_no_head_needs_is_refused() {
    let case = Case { adjust: |spec, _| spec.architecture = Some("LlamaForCausalLM".into()), ..llama(json!({}), &[]) };
    let (kind, text) = case.refusal();
    assert!(kind == Kind::Conflict && text.contains("--architecture LlamaForCausalLM"), "{text}");
}
