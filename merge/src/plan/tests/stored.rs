//! A plan as it is stored, and cut into tasks.

use super::*;
use crate::inventory::Grain;
use crate::plan::cost::cost;
use crate::plan::task::Task;

#[test]
fn a_plan_is_read_back_as_it_was_and_a_difference_is_named() {
    let (plan, _) = linear().adapter(json!({}), &Q).plan().unwrap();
    let again = Plan::from_bytes(&plan.to_bytes()).unwrap();
    assert_eq!(again, plan);
    assert_eq!(again.digest(), plan.digest());
    let text = serde_json::to_vec(&plan).unwrap();
    assert_eq!(plan.digest(), blake3::hash(&text).to_hex().to_string());
    assert_eq!(plan.difference(&again), None);
    let mut other = plan.clone();
    other.objects[1].pin = "touched".into();
    let difference = plan.difference(&other).unwrap();
    assert!(difference.input && difference.what == "adapter0/adapter_model.safetensors");
    let mut other = plan.clone();
    other.spec.dora_norm = DoraNorm::Original;
    let difference = plan.difference(&other).unwrap();
    assert!(!difference.input && difference.what == "plan.spec.dora_norm", "{difference:?}");
    assert_eq!(Plan::from_bytes(br#"{"format": 99}"#).unwrap_err().kind(), Kind::Unsupported);
}

/// A base with 256 KiB that nothing changes, in parts of 64 KiB.
fn with_copies(grain: Option<Grain>) -> Plan {
    let mut case = linear().adapter(json!({}), &Q);
    case.base.push(("a.weight", vec![256, 256]));
    let (mut spec, mut inventory) = case.inputs().unwrap();
    (spec.part_size, inventory.grain) = (64 << 10, grain);
    Plan::new(spec, &inventory).unwrap().0
}

#[test]
fn what_the_store_copies_changes_the_parts_of_a_plan_and_not_what_it_makes() {
    let (copied, made) = (with_copies(Some(Grain::FILES)), with_copies(None));
    assert_eq!(copied.digest(), made.digest());
    assert_eq!(copied.difference(&made), None);
    assert_eq!(Plan::from_bytes(&copied.to_bytes()).unwrap(), copied, "the parts are stored");
    let lengths = |plan: &Plan| plan.output.files[0].cut.parts.iter().map(|p| p.end - p.start).collect::<Vec<_>>();
    assert_eq!(lengths(&made)[..4], [64 << 10; 4]);
    let copies = copied.output.files[0].copies();
    assert_eq!(copies.iter().flatten().count(), 3, "{:?}", lengths(&copied));
    assert!(made.output.files[0].copies().iter().all(Option::is_none));
    let (less, all) = (cost(&copied), cost(&made));
    assert_eq!((all.copied, less.copied), (0, all.read - less.read), "what the store copies is not read");
    assert_eq!((less.write, less.copied), (all.write, copies.iter().flatten().map(|(_, r)| r.end - r.start).sum()));
    // Copies are tasks of their own, so that many are in flight.
    let of_copies = |task: &Task| task.work.pieces().all(|part| copies[part as usize].is_some());
    assert_eq!(tasks(&copied).iter().filter(|task| of_copies(task)).count(), 1);
}

proptest! {
    /// Whatever the shapes: every byte of every file belongs to the header or to one tensor, and every part to one task.
    #[test]
    fn tasks_cover_every_part_once(shapes in proptest::collection::vec((1u64..40, 1u64..40), 1..20)) {
        const NAMES: [&str; 20] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"];
        let mut base: Vec<(&'static str, Vec<u64>)> = vec![("m.q_proj.weight", vec![6, 6])];
        base.extend(shapes.iter().zip(NAMES).map(|((r, c), n)| (n, vec![*r, *c])));
        let case = Case { base, ..Case::new(json!({"model_type": LLAMA}), &[]).adapter(json!({}), &Q) };
        let (plan, _) = case.plan().unwrap();
        let file = &plan.output.files[0];
        let mut at = file.header().len() as u64;
        prop_assert_eq!(at, file.header_length());
        for t in &file.tensors {
            prop_assert_eq!(t.offset, at);
            at += t.length;
        }
        prop_assert_eq!(at, file.size);
        let mut parts: Vec<u32> = tasks(&plan).iter().flat_map(|t| t.work.pieces()).collect();
        parts.sort_unstable();
        prop_assert_eq!(parts, (0..file.cut.parts.count()).collect::<Vec<_>>());
    }
}
