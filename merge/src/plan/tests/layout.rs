//! Outputs that nobody could load are refused.

use super::*;
use crate::inventory::Sidecar;

fn shards(inventory: &mut Inventory, names: [&str; 2]) {
    let tensors = std::mem::take(&mut inventory.base.shards[0].tensors);
    let (one, two) = tensors.split_at(1);
    inventory.base.indexed = true;
    inventory.base.shards = names
        .into_iter()
        .zip([one, two])
        .map(|(name, t)| Shard { name: name.into(), metadata: BTreeMap::new(), tensors: t.into() })
        .collect();
}

fn adjusted(adjust: fn(&mut MergeSpec, &mut Inventory)) -> Case {
    Case { adjust, ..linear().adapter(json!({}), &Q) }
}

#[test]
fn two_weight_files_of_one_name_are_refused_by_it() {
    let clash = |_: &mut MergeSpec, i: &mut Inventory| shards(i, ["a.bin", "model-00001-of-00002.safetensors"]);
    let (kind, text) = adjusted(clash).refusal();
    assert_eq!(kind, Kind::Conflict);
    assert!(text.contains("model-00001-of-00002.safetensors"), "{text}");
    let cut_anew = |spec: &mut MergeSpec, i: &mut Inventory| {
        shards(i, ["a.bin", "model-00001-of-00002.safetensors"]);
        spec.max_shard_size = Some(1 << 20);
    };
    adjusted(cut_anew).plan().unwrap();
}

#[test]
fn files_have_the_names_that_loaders_expect() {
    let names = |case: &Case| {
        let (plan, _) = case.plan().unwrap();
        let files: Vec<String> = plan.output.files.iter().map(|file| file.name.clone()).collect();
        (files, plan.output.index.is_some())
    };
    let one = (vec!["model.safetensors".to_owned()], false);
    assert_eq!(names(&adjusted(|_, _| ())), one, "one file stays one");
    assert_eq!(names(&adjusted(|spec, _| spec.max_shard_size = Some(1 << 20))), one, "all fits into one");
    // No two of the three tensors fit into 80 bytes.
    let cut = adjusted(|spec, _| spec.max_shard_size = Some(80));
    let three = (1..=3).map(|n| format!("model-{n:05}-of-00003.safetensors")).collect();
    assert_eq!(names(&cut), (three, true));
    let own = adjusted(|_, i| shards(i, ["a.safetensors", "b.safetensors"]));
    assert_eq!(names(&own), (vec!["a.safetensors".to_owned(), "b.safetensors".to_owned()], true), "the base's own");
}

#[test]
fn a_sidecar_does_not_take_the_name_of_what_is_written() {
    for name in ["model.safetensors", "config.json", "shardfuse.json"] {
        let mut case = adjusted(|_, _| ());
        case.adjust = match name {
            "model.safetensors" => |_, i| sidecar(i, "model.safetensors"),
            "config.json" => |_, i| sidecar(i, "config.json"),
            _ => |_, i| sidecar(i, "shardfuse.json"),
        };
        let (kind, text) = case.refusal();
        assert!(kind == Kind::Conflict && text.contains(name), "{text}");
    }
}

fn sidecar(inventory: &mut Inventory, name: &str) {
    inventory.base.sidecars.push(Sidecar { name: name.into(), object: ObjectId(0) });
}

#[test]
fn names_that_a_merge_needs_for_itself_are_refused() {
    let temporary = |_: &mut MergeSpec, i: &mut Inventory| shards(i, [".shardfuse-tmp-1.safetensors", "b.safetensors"]);
    let (kind, text) = adjusted(temporary).refusal();
    assert_eq!(kind, Kind::UnsafePath);
    assert!(text.contains(".shardfuse-tmp-1.safetensors"), "{text}");
    let below = |_: &mut MergeSpec, i: &mut Inventory| sidecar(i, "x/.shardfuse/plan");
    assert_eq!(adjusted(below).refusal().0, Kind::UnsafePath);
}

#[test]
fn a_tensor_with_the_name_of_the_metadata_is_refused() {
    let case = Case::new(json!({"model_type": LLAMA}), &[("m.q_proj.weight", &[6, 6]), ("__metadata__", &[2])]);
    let (kind, text) = case.adapter(json!({}), &Q).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(text.contains("__metadata__"), "{text}");
}

#[test]
fn a_plan_that_would_not_come_back_is_not_stored() {
    let (mut plan, _) = linear().adapter(json!({}), &Q).plan().unwrap();
    assert_eq!(plan.to_stored().unwrap(), plan.to_bytes());
    plan.spec.lora[0].weight = f64::INFINITY;
    assert_eq!(plan.to_stored().unwrap_err().kind(), Kind::Internal);
}

proptest! {
    /// A weight is the same number after it was stored, to its last bit.
    #[test]
    fn every_finite_weight_survives_being_stored(bits in any::<u64>()) {
        let weight = f64::from_bits(bits);
        prop_assume!(weight.is_finite());
        let (mut plan, _) = linear().adapter(json!({}), &Q).plan().unwrap();
        plan.spec.lora[0].weight = weight;
        prop_assert!(plan.to_stored().is_ok(), "{weight:e}");
    }
}

#[test]
fn a_cancelled_plan_is_not_made() {
    let cancel = crate::effort::Cancel::default();
    cancel.cancel();
    let case = Case { adjust: |_, _| (), ..linear().adapter(json!({}), &Q) };
    let (spec, inventory) = case.inputs().unwrap();
    assert_eq!(Plan::until(spec, &inventory, cancel).unwrap_err().kind(), Kind::Interrupted);
}
