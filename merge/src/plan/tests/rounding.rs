//! `--rounding per-adapter`: where a recipe rounds between adapters.

use super::*;
use crate::recipe::{Round, Step};
use crate::spec::Rounding;
use crate::tensor::float::Float;

const W: &str = "m.q_proj.weight";

/// What the steps of the weight do, with the adapter of each.
fn steps(case: &Case) -> Vec<(u16, &'static str)> {
    let Recipe::Fuse(fuse) = case.recipe(W) else { return Vec::new() };
    let name = |op: &Op| match op {
        Op::Add(_) => "add",
        Op::Dora(_) => "dora",
        Op::SetRows(_) => "set rows",
        Op::Scale(_) => "scale",
        Op::Round(Round { to: Float::BF16 }) => "round",
        other => panic!("{other:?}"),
    };
    fuse.steps.iter().map(|step| (step.adapter, name(&step.op))).collect()
}

/// So many adapters on the weight, all of them rounded for themselves, with this dtype of the base and of the output.
fn rounded(adapters: usize, adjust: fn(&mut MergeSpec, &mut Inventory)) -> Case {
    let case = (0..adapters).fold(linear(), |case, _| case.adapter(json!({}), &Q));
    Case { adjust, ..case }
}

fn bf16(spec: &mut MergeSpec, inventory: &mut Inventory) {
    spec.rounding = Rounding::PerAdapter;
    inventory.base.shards[0].tensors.iter_mut().for_each(|tensor| tensor.dtype = Dtype::BF16);
}

#[test]
fn a_sum_is_rounded_before_each_adapter_but_the_first() {
    assert_eq!(steps(&rounded(1, bf16)), [(0, "add")]);
    assert_eq!(steps(&rounded(3, bf16)), [(0, "add"), (0, "round"), (1, "add"), (1, "round"), (2, "add")]);
    let once = |spec: &mut MergeSpec, inventory: &mut Inventory| {
        bf16(spec, inventory);
        spec.rounding = Rounding::Once;
    };
    assert_eq!(steps(&rounded(2, once)), [(0, "add"), (1, "add")]);
}

#[test]
fn what_the_outputs_dtype_holds_is_not_rounded() {
    let f32s = |spec: &mut MergeSpec, _: &mut Inventory| spec.rounding = Rounding::PerAdapter;
    assert_eq!(steps(&rounded(2, f32s)), [(0, "add"), (1, "add")]);
    // The first adapter changes another tensor. The output of an f32 base as bf16 would have rounded this one too.
    let first = |base: Dtype| {
        let v = [
            ("base_model.model.m.v_proj.lora_A.weight", &[2, 6][..]),
            ("base_model.model.m.v_proj.lora_B.weight", &[6, 2]),
        ];
        let case = linear().adapter(json!({}), &v).adapter(json!({}), &Q);
        let adjust: fn(&mut MergeSpec, &mut Inventory) = match base {
            Dtype::BF16 => bf16,
            _ => |spec, _| {
                spec.rounding = Rounding::PerAdapter;
                spec.dtype = "bf16".parse().unwrap();
            },
        };
        steps(&Case { adjust, ..case })
    };
    assert_eq!(first(Dtype::BF16), [(1, "add")]);
    assert_eq!(first(Dtype::F32), [(0, "round"), (1, "add")]);
}

#[test]
fn a_replacement_is_rounded_before_the_next_adapter() {
    let saved: [(&str, &[u64]); 1] = [("base_model.model.m.q_proj.base_layer.weight", &[6, 6])];
    let with_delta = [saved[0], Q[0], Q[1]];
    let case = linear().adapter(json!({}), &Q).adapter(json!({}), &with_delta).adapter(json!({}), &Q);
    assert_eq!(
        steps(&Case { adjust: bf16, ..case }),
        [(1, "add"), (1, "round"), (2, "add")],
        "the replacement is in f32"
    );
    let alone = linear().adapter(json!({}), &with_delta[..1]).adapter(json!({}), &Q);
    assert_eq!(steps(&Case { adjust: bf16, ..alone }), [(0, "round"), (1, "add")]);
}

#[test]
fn uses_of_one_adapter_are_not_joined() {
    fn same(spec: &mut MergeSpec, inventory: &mut Inventory) {
        bf16(spec, inventory);
        inventory.adapters[1] = inventory.adapters[0].clone();
    }
    let case = Case { weights: vec![0.25, 0.75], ..rounded(2, same) };
    assert_eq!(steps(&case), [(0, "add"), (0, "round"), (1, "add")]);
    assert_eq!(case.plan().unwrap().1.adapters.len(), 2);
}

#[test]
fn the_norm_of_a_column_is_measured_of_the_rounded_weight() {
    let dora: [(&str, &[u64]); 3] = [
        ("base_model.model.h.0.attn.c_proj.lora_A.weight", &[2, 6]),
        ("base_model.model.h.0.attn.c_proj.lora_B.weight", &[6, 2]),
        ("base_model.model.h.0.attn.c_proj.lora_magnitude_vector", &[6]),
    ];
    let case = Case::new(json!({"model_type": "gpt2"}), &[("h.0.attn.c_proj.weight", &[6, 6])]);
    let dora = |case: Case| case.adapter(json!({"use_dora": true}), &dora);
    let (plan, _) = Case { adjust: bf16, ..dora(dora(case)) }.plan().unwrap();
    let [first, second] = plan.statistics.as_slice() else { panic!("{:?}", plan.statistics) };
    assert!(matches!(first.steps.as_slice(), [Step { op: Op::Add(_), .. }]), "{first:?}");
    let ops: Vec<&Op> = second.steps.iter().map(|step| &step.op).collect();
    assert!(matches!(ops.as_slice(), [Op::Dora(_), Op::Round(_), Op::Add(_)]), "{ops:?}");
}

#[test]
fn norms_of_the_base_contradict_it() {
    let case = rounded(2, |spec, inventory| {
        bf16(spec, inventory);
        spec.dora_norm = DoraNorm::Original;
    });
    assert_eq!(
        case.refusal(),
        (
            Kind::Usage,
            "--rounding per-adapter takes DoRA's norms of the weight that was saved last, and --dora-norm original of the base"
                .to_owned()
        )
    );
}
