//! Kinds whose merge is a formula on one weight: what is refused, and where the scale comes from. Values are held to PEFT by golden
//! cases.

use super::*;
use crate::recipe::{Form, Kronecker};

const Q: &str = "base_model.model.m.q_proj";

fn key(part: &str) -> &'static str {
    Box::leak(format!("{Q}.{part}").into_boxed_str())
}

#[test]
fn the_scale_of_lokr_is_alpha_over_the_rank_of_the_configuration_where_no_tensor_has_one() {
    let parts: [(&str, &[u64]); 2] = [(key("lokr_w1"), &[2, 3]), (key("lokr_w2"), &[3, 2])];
    let config = json!({"peft_type": "LOKR", "r": 4, "alpha": 6, "rank_pattern": {"q_proj": 3}});
    let ops = linear().adapter(config, &parts).ops("m.q_proj.weight");
    let [Op::Add(Add(Delta::Kronecker(delta)))] = &ops[..] else { panic!("{ops:?}") };
    let Kronecker { outer, scale, .. } = &**delta;
    assert_eq!((outer.is_some(), *scale), (true, 2.0));
    assert!(ops[0].matrices().iter().all(|matrices| matrices.form == Form::Plain));
}

#[test]
fn a_product_that_is_not_of_the_weights_size_is_refused() {
    let parts: [(&str, &[u64]); 2] = [(key("lokr_w1"), &[2, 3]), (key("lokr_w2"), &[3, 3])];
    let (kind, message) = linear().adapter(json!({"peft_type": "LOKR"}), &parts).refusal();
    assert_eq!(kind, Kind::ShapeMismatch);
    assert!(message.contains("lokr_w1") && message.contains("m.q_proj.weight"), "{message}");
}

#[test]
fn blocks_that_do_not_cover_the_inputs_are_refused_unless_one_is_for_all() {
    let of = |share: bool| {
        let parts: [(&str, &[u64]); 1] = [(key("oft_R.weight"), &[1, 3])];
        linear().adapter(json!({"peft_type": "OFT", "block_share": share}), &parts)
    };
    assert_eq!(of(false).refusal().0, Kind::ShapeMismatch, "one block of 3, the weight has 6 inputs");
    let ops = of(true).ops("m.q_proj.weight");
    assert!(matches!(&ops[..], [Op::Mix(_)]), "{ops:?}");
}

#[test]
fn boft_turns_once_for_each_factor_and_then_multiplies_the_outputs() {
    let parts: [(&str, &[u64]); 2] = [(key("boft_R"), &[1, 3, 2, 2]), (key("boft_s"), &[6, 1])];
    let ops = linear().adapter(json!({"peft_type": "BOFT"}), &parts).ops("m.q_proj.weight");
    assert!(matches!(&ops[..], [Op::Mix(_), Op::Scale(_)]), "{ops:?}");
    let parts: [(&str, &[u64]); 2] = [(key("boft_R"), &[1, 3, 2, 2]), (key("boft_s"), &[5, 1])];
    let (kind, message) = linear().adapter(json!({"peft_type": "BOFT"}), &parts).refusal();
    assert_eq!(kind, Kind::ShapeMismatch);
    assert!(message.contains("5 outputs, the weight 6"), "{message}");
}

#[test]
fn a_rank_that_the_configuration_has_nowhere_is_refused() {
    for (config, part, shape) in [
        (json!({"peft_type": "HRA", "r": 3}), "hra_u", [6u64, 2]),
        (json!({"peft_type": "MISS", "r": 3}), "miss_block", [2, 6]),
    ] {
        let (kind, message) = linear().adapter(config, &[(key(part), &shape)]).refusal();
        assert!(matches!(kind, Kind::RankMismatch | Kind::ShapeMismatch), "{message}");
        assert!(message.contains(part) && message.contains('3'), "{message}");
    }
}

#[test]
fn what_acts_on_the_inputs_is_refused_where_they_are_the_rows() {
    let case = Case::new(json!({"model_type": "gpt2"}), &[("h.0.mlp.c_fc.weight", &[6, 8])]);
    let tensor: [(&str, &[u64]); 1] = [("base_model.model.h.0.mlp.c_fc.hra_u", &[6, 2])];
    let (kind, message) = case.adapter(json!({"peft_type": "HRA", "r": 2}), &tensor).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(message.contains("stored as [in, out]"), "{message}");
}

fn shira(r: u64, count: &'static [u64], places: &'static [u64]) -> Case {
    let parts: [(&str, &[u64]); 2] = [(key("shira_weight"), count), (key("shira_indices"), places)];
    linear().adapter(json!({"peft_type": "SHIRA", "r": r}), &parts)
}

#[test]
fn shira_adds_as_many_values_as_its_rank_says() {
    let mut half = shira(2, &[24], &[2, 24]);
    half.weights = vec![0.5];
    let ops = half.ops("m.q_proj.weight");
    let [Op::Add(Add(Delta::Sparse(delta)))] = &ops[..] else { panic!("{ops:?}") };
    assert_eq!(delta.scale, 0.5);
    let (kind, text) = shira(1, &[24], &[2, 24]).refusal();
    assert!(kind == Kind::ShapeMismatch && text.contains("24 values") && text.contains("gives 12"), "{text}");
    assert_eq!(shira(2, &[24], &[2, 23]).refusal().0, Kind::ShapeMismatch, "a value without a place");
}
