//! Kinds of adapters beside LoRA: what their tensors become, and what is refused. Values are held to PEFT by golden cases.

use super::*;
use crate::output::SmallFile;
use crate::recipe::{Along, Scale};

fn key(module: &str, part: &str) -> &'static str {
    Box::leak(format!("base_model.model.m.{module}.{part}").into_boxed_str())
}

fn adalora(k: u64) -> Case {
    let parts: [(&str, &[u64]); 3] =
        [(key("q_proj", "lora_A"), &[k, 6]), (key("q_proj", "lora_B"), &[6, k]), (key("q_proj", "lora_E"), &[k, 1])];
    linear().adapter(json!({"peft_type": "ADALORA", "init_r": 4, "lora_alpha": 8}), &parts)
}

#[test]
fn adalora_multiplies_the_rows_of_its_right_factor_and_divides_by_the_first_rank() {
    let ops = adalora(3).ops("m.q_proj.weight");
    let [Op::Add(Add(Delta::LowRank(delta)))] = &ops[..] else { panic!("{ops:?}") };
    assert_eq!(delta.right.row_gains.as_ref().map(|e| e.name.as_str()), Some(key("q_proj", "lora_E")));
    assert_eq!(delta.scale, (8.0 / 4.00001) as f32);
    assert_eq!(delta.rank(), 3);
}

#[test]
fn a_module_of_which_adalora_kept_no_rank_is_copied_and_named() {
    let (plan, report) = adalora(0).plan().unwrap();
    assert!(plan.output.files[0].tensors.iter().all(|t| matches!(t.recipe, Recipe::Copy(_))));
    assert_eq!(report.adapters[0].ignored.len(), 3);
}

#[test]
fn what_modules_would_share_is_named_where_there_are_none() {
    let shared: [(&str, &[u64]); 2] = [("base_model.vera_A", &[3, 6]), ("base_model.vera_B", &[6, 3])];
    let own: [(&str, &[u64]); 2] = [(key("q_proj", "vera_lambda_b"), &[6]), (key("q_proj", "vera_lambda_d"), &[3])];
    let ignored = |tensors: &[(&'static str, &'static [u64])]| {
        let (_, report) = linear().adapter(json!({"peft_type": "VERA", "r": 3}), tensors).plan().unwrap();
        report.adapters[0].ignored.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ignored(&shared), ["base_model.vera_A", "base_model.vera_B"]);
    assert!(ignored(&[&shared[..], &own].concat()).is_empty());
}

#[test]
fn a_factor_that_is_missing_is_named() {
    for (there, missing) in [("lora_A.weight", "no lora_B"), ("lora_B.weight", "no lora_A")] {
        let (kind, message) = linear().adapter(json!({}), &[(key("q_proj", there), &[2, 6])]).refusal();
        assert_eq!(kind, Kind::IncompletePair);
        assert!(message.ends_with(missing), "{message}");
    }
}

#[test]
fn a_target_that_the_adapter_holds_nothing_for_is_named() {
    let pair: [(&str, &[u64]); 2] =
        [(key("q_proj", "lora_A.weight"), &[2, 6]), (key("q_proj", "lora_B.weight"), &[6, 2])];
    let warnings = |targets: Value| {
        let mut base = linear();
        base.base.push(("m.k_proj.weight", vec![6, 6]));
        base.adapter(json!({"target_modules": targets}), &pair).plan().unwrap().1.warnings
    };
    assert_eq!(warnings(json!(["q_proj", "elsewhere"])), Vec::<String>::new());
    let warned = warnings(json!(["q_proj", "k_proj"]));
    assert!(warned.len() == 1 && warned[0].contains("target_modules names k_proj"), "{warned:?}");
}

#[test]
fn a_configuration_without_a_dtype_gets_none() {
    let pair: [(&str, &[u64]); 2] =
        [(key("q_proj", "lora_A.weight"), &[2, 6]), (key("q_proj", "lora_B.weight"), &[6, 2])];
    let case = linear().adapter(json!({}), &pair);
    let (plan, _) = case.plan().unwrap();
    assert_eq!(plan.output.config, SmallFile::Text(case.config.to_string()));
    let converted = Case { adjust: |spec, _| spec.dtype = "bf16".parse().unwrap(), ..case };
    let SmallFile::Text(config) = converted.plan().unwrap().0.output.config else { panic!("it is not copied") };
    assert_eq!(serde_json::from_str::<Value>(&config).unwrap()["torch_dtype"], "bfloat16", "unless the merge converts");
}

#[test]
fn an_empty_matrix_of_a_lora_is_still_refused() {
    let parts: [(&str, &[u64]); 2] =
        [(key("q_proj", "lora_A.weight"), &[0, 6]), (key("q_proj", "lora_B.weight"), &[6, 0])];
    assert_eq!(linear().adapter(json!({}), &parts).refusal().0, Kind::EmptyTensor);
}

fn loha(w2_a: &'static [u64]) -> Case {
    let parts: [(&str, &[u64]); 4] = [
        (key("q_proj", "hada_w1_a"), &[6, 2]),
        (key("q_proj", "hada_w1_b"), &[2, 6]),
        (key("q_proj", "hada_w2_a"), w2_a),
        (key("q_proj", "hada_w2_b"), &[2, 6]),
    ];
    linear().adapter(json!({"peft_type": "LOHA", "alpha": 3}), &parts)
}

#[test]
fn loha_is_a_product_of_two_products() {
    let ops = loha(&[6, 2]).ops("m.q_proj.weight");
    let [Op::Add(Add(Delta::Hadamard(delta)))] = &ops[..] else { panic!("{ops:?}") };
    assert_eq!(delta.scale, 1.5);
    assert_eq!(loha(&[6, 3]).refusal().0, Kind::RankMismatch);
    assert_eq!(loha(&[5, 2]).refusal().0, Kind::ShapeMismatch);
}

fn vera(lambda_d: u64, inputs: u64) -> Case {
    let parts: [(&str, Vec<u64>); 4] = [
        (key("q_proj", "vera_lambda_b"), vec![6]),
        (key("q_proj", "vera_lambda_d"), vec![lambda_d]),
        ("base_model.vera_A", vec![3, inputs]),
        ("base_model.vera_B", vec![9, 3]),
    ];
    let parts: Vec<(&str, &[u64])> = parts.iter().map(|(name, shape)| (*name, shape.as_slice())).collect();
    linear().adapter(json!({"peft_type": "VERA", "r": 3}), &parts)
}

#[test]
fn vera_takes_the_first_rows_and_columns_of_what_all_modules_share() {
    let ops = vera(3, 8).ops("m.q_proj.weight");
    let [Op::Add(Add(Delta::LowRank(delta)))] = &ops[..] else { panic!("{ops:?}") };
    assert_eq!((delta.left.view.rows, delta.right.view.cols, delta.right.view.row_stride), (6, 6, 8));
    let gains = |operand: &Operand| operand.row_gains.as_ref().map(|gains| gains.name.clone());
    assert_eq!(gains(&delta.left).as_deref(), Some(key("q_proj", "vera_lambda_b")));
    assert_eq!(gains(&delta.right).as_deref(), Some(key("q_proj", "vera_lambda_d")));
    assert_eq!(vera(2, 8).refusal().0, Kind::ShapeMismatch);
    assert_eq!(vera(3, 5).refusal().0, Kind::ShapeMismatch, "the matrix is narrower than the layer");
}

#[test]
fn a_bias_of_ln_tuning_needs_a_bias_in_the_base() {
    let part: [(&str, &[u64]); 2] =
        [(key("v_proj", "ln_tuning_layers.weight"), &[6, 6]), (key("v_proj", "ln_tuning_layers.bias"), &[6])];
    let case = |parts| linear().adapter(json!({"peft_type": "LN_TUNING"}), parts);
    assert_eq!(case(&part[..1]).recipe("m.v_proj.weight").starts()[0].object, ObjectId(1), "it comes from the adapter");
    let (kind, message) = case(&part).refusal();
    assert_eq!(kind, Kind::MissingTensor);
    assert!(message.contains("ln_tuning_layers.bias"), "{message}");
}

#[test]
fn loha_for_convolutions_and_an_incomplete_one_are_refused_by_name() {
    let parts: [(&str, &[u64]); 2] = [(key("q_proj", "hada_w1_a"), &[6, 2]), (key("q_proj", "hada_w1_b"), &[2, 6])];
    let case = |more: &[(&'static str, &[u64])]| {
        let parts: Vec<_> = parts.iter().copied().chain(more.iter().copied()).collect();
        linear().adapter(json!({"peft_type": "LOHA"}), &parts).refusal()
    };
    let (kind, text) = case(&[]);
    assert!(kind == Kind::IncompletePair && text.contains("hada_w2_a, hada_w2_b"), "{text}");
    assert_eq!(case(&[(key("q_proj", "hada_t1"), &[2, 2, 3, 3])]).0, Kind::Unsupported);
}

fn ia3(config: Value, shape: &'static [u64]) -> Case {
    let mut all = json!({"peft_type": "IA3"});
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    linear().adapter(all, &[(key("q_proj", "ia3_l"), shape)])
}

#[test]
fn ia3_multiplies_outputs_with_their_bias_or_inputs_alone() {
    let along = |case: &Case, name: &str| match &case.ops(name)[..] {
        [] => None,
        [Op::Scale(Scale { along, .. })] => Some(*along),
        other => panic!("{other:?}"),
    };
    let outputs = ia3(json!({}), &[6, 1]);
    assert_eq!(along(&outputs, "m.q_proj.weight"), Some(Along::Rows));
    assert_eq!(along(&outputs, "m.q_proj.bias"), Some(Along::Rows));
    // A list matches the bare end of a name; a text must match all of it.
    for feedforward in [json!(["proj"]), json!("m\\.q_proj"), json!(".*q_proj")] {
        let inputs = ia3(json!({"feedforward_modules": feedforward}), &[1, 6]);
        assert_eq!(along(&inputs, "m.q_proj.weight"), Some(Along::Columns), "{feedforward}");
        assert_eq!(along(&inputs, "m.q_proj.bias"), None);
    }
    let part = ia3(json!({"feedforward_modules": "q_proj"}), &[6, 1]);
    assert_eq!(along(&part, "m.q_proj.weight"), Some(Along::Rows), "a part of the path is no match");
}

#[test]
fn ia3_takes_no_weight_and_fits_its_layer() {
    let mut case = ia3(json!({}), &[6, 1]);
    case.weights = vec![0.5];
    let (kind, text) = case.refusal();
    assert!(kind == Kind::Conflict && text.contains("is multiplied"), "{text}");
    let (kind, text) = ia3(json!({}), &[5, 1]).refusal();
    assert!(kind == Kind::ShapeMismatch && text.contains("[5, 1]") && text.contains("6 rows"), "{text}");
}
