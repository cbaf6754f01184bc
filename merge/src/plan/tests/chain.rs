//! What the report says of adapters that name another adapter as their base.

use super::*;
use crate::plan::lineage::TrainedOn;

const WEIGHT: &str = "model.layers.0.mlp.up_proj.weight";

const LEFT: &str = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight";
const RIGHT: &str = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight";

/// Adapters that were trained on what `named` says, in this order.
fn trained_on(named: &[&str]) -> Case {
    let base = Case::new(json!({"model_type": "llama"}), &[(WEIGHT, &[8, 4])]);
    named.iter().fold(base, |case, named| {
        let config = json!({"target_modules": ["up_proj"], "base_model_name_or_path": named});
        case.adapter(config, &[(RIGHT, &[2, 4]), (LEFT, &[8, 2])])
    })
}

/// The notes and the warnings about bases.
fn remarks(named: &[&str], weights: &[f64]) -> (Vec<String>, Vec<String>) {
    let case = Case { weights: weights.to_vec(), ..trained_on(named) };
    let (_, report) = case.plan().unwrap();
    let of_bases = |all: Vec<String>| all.into_iter().filter(|r| r.contains("base")).collect();
    (of_bases(report.notes), of_bases(report.warnings))
}

#[test]
fn an_adapter_trained_on_an_earlier_one_is_a_chain() {
    let (notes, warnings) = remarks(&["org/base", "org/adapter0"], &[1.0, 1.0]);
    assert_eq!(notes, ["adapter 2 names adapter 1 as its base (org/adapter0): a chain"]);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn an_adapter_trained_on_a_later_one_is_a_warning() {
    let (notes, warnings) = remarks(&["org/adapter1", "org/base"], &[1.0, 1.0]);
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!(
        warnings,
        ["adapter 1 names adapter 2 as its base (org/adapter1), which applies after it: give adapter 2 first"]
    );
}

#[test]
fn an_adapter_without_weight_is_nobodys_base() {
    let (notes, warnings) = remarks(&["base", "adapter0"], &[0.0, 1.0]);
    assert!(notes.is_empty(), "{notes:?}");
    assert_eq!(warnings, ["adapter 2 was trained on adapter0, the base is base"]);
}

#[test]
fn adapters_are_numbered_as_the_report_lists_them() {
    let mut case = trained_on(&["base", "base", "adapter1"]);
    // The first two are one file, so they are one use, listed as adapter 1.
    case.adjust = |_, inventory| {
        let [first, second, ..] = inventory.adapters.as_mut_slice() else { return };
        second.tensors.clone_from(&first.tensors);
        first.url.clone_from(&second.url);
    };
    let (_, report) = case.plan().unwrap();
    let chains: Vec<&String> = report.notes.iter().filter(|n| n.contains("a chain")).collect();
    assert_eq!(chains, ["adapter 2 names adapter 1 as its base (adapter1): a chain"]);
}

/// What the plan says that each adapter was trained on. Adapters have these places.
fn lineage(named: &[&'static str], places: &'static [&'static str]) -> Vec<TrainedOn> {
    let (spec, mut inventory) = trained_on(named).inputs().unwrap();
    inventory.base.url = "models/Llama-2-7b-hf".into();
    inventory.adapters.iter_mut().zip(places).for_each(|(adapter, place)| adapter.url = (*place).into());
    let (plan, _) = Plan::new(spec, &inventory).unwrap();
    let read = Plan::from_bytes(&plan.to_bytes()).unwrap();
    assert_eq!(read.lineage, plan.lineage);
    plan.lineage.iter().map(|one| one.trained_on).collect()
}

#[test]
fn the_result_of_an_adapter_is_found_by_its_name_without_the_words_of_adapters() {
    use TrainedOn::{Adapter, Base, Elsewhere, LaterAdapter};
    let places = &["hub/chinese-alpaca-2-lora-7b", "hub/instruct_peft", "mine"];
    let chain = &["meta/Llama-2-7b-hf", "hub/chinese-alpaca-2-7b", "/disk/instruct-merged/"];
    assert_eq!(lineage(chain, places), [Base, Adapter(1), Adapter(2)]);
    assert_eq!(lineage(&["a/instruct", "a/Llama-2-7b-hf", "lora"], places), [LaterAdapter(2), Base, Elsewhere]);
}

#[test]
fn adapters_of_one_base_are_no_chain_whatever_they_are_called() {
    use TrainedOn::Elsewhere;
    // The base lies here under another name than the one that both name.
    assert_eq!(lineage(&["Llama-2-7b", "Llama-2-7b"], &["Llama-2-7b-lora", "b"]), [Elsewhere, Elsewhere]);
    assert_eq!(lineage(&["Llama-2-7b", "Llama-2-7b"], &["b", "Llama-2-7b-lora"]), [Elsewhere, Elsewhere]);
}
