//! What cannot be scaled, said to a worker or computed is refused while planning.

use super::*;
use crate::limits::{MAX_FACTORS, MAX_NAME, MAX_RANK};
use crate::plan::cost::cost;

#[test]
fn a_scale_beyond_fp32_is_refused_with_module_and_value() {
    for config in [
        json!({"lora_alpha": 1e39}),
        json!({"alpha_pattern": {"q_proj": 1e39}}),
        json!({"lora_alpha": -1e39}),
        json!({"lora_alpha": 1e39, "use_rslora": true}),
    ] {
        let (kind, text) = linear().adapter(config, &Q).refusal();
        assert_eq!(kind, Kind::BadConfig);
        assert!(text.contains("m.q_proj") && text.contains("e38"), "{text}");
    }
    let heavy = Case { weights: vec![1e39], ..linear().adapter(json!({}), &Q) };
    let (kind, text) = heavy.refusal();
    assert!(kind == Kind::BadConfig && text.contains("m.q_proj") && text.contains("2e39"), "{text}");
    assert_eq!(scale_of(json!({"lora_alpha": 3e38})), 1.5e38, "what fp32 holds is taken");
    let bias: [(&str, &[u64]); 3] = [Q[0], Q[1], ("base_model.model.m.q_proj.lora_B.bias", &[6])];
    let biased = linear().adapter(json!({"lora_bias": true, "lora_alpha": 1e39}), &bias);
    assert_eq!(biased.refusal().0, Kind::BadConfig);
}

fn of_name(length: usize) -> Case {
    let name: &'static str = String::leak("n".repeat(length));
    Case::new(json!({"model_type": LLAMA}), &[("m.q_proj.weight", &[6, 6]), (name, &[2])]).adapter(json!({}), &Q)
}

#[test]
fn a_name_or_shape_that_no_worker_takes_is_refused() {
    of_name(MAX_NAME).plan().unwrap();
    let (kind, text) = of_name(MAX_NAME + 1).refusal();
    assert_eq!(kind, Kind::Unsupported);
    assert!(text.contains("16385") && text.contains("16384") && text.len() < 1000, "{text}");
    for (shape, refused) in [(&[1u64; 16][..], false), (&[1; 17], true), (&[0, 1 << 30, 1 << 30], true)] {
        let case = Case::new(json!({"model_type": LLAMA}), &[("m.q_proj.weight", &[6, 6]), ("odd", shape)]);
        let result = case.adapter(json!({}), &Q).plan();
        match refused {
            false => drop(result.unwrap()),
            true => assert!(result.unwrap_err().message().contains("odd"), "{shape:?}"),
        }
    }
}

#[test]
fn a_rank_or_a_row_that_no_worker_takes_is_refused() {
    let pair = |rank: u64, cols: u64| {
        let a: &'static [u64] = Vec::leak(vec![rank, 2]);
        let b: &'static [u64] = Vec::leak(vec![cols, rank]);
        let base: &'static [u64] = Vec::leak(vec![2, cols]);
        let magnitude: &'static [u64] = Vec::leak(vec![cols]);
        let case = Case::new(json!({"model_type": "gpt2"}), &[("h.0.mlp.c_fc.weight", base)]).adapter(
            json!({"r": rank, "use_dora": true}),
            &[
                ("base_model.model.h.0.mlp.c_fc.lora_A.weight", a),
                ("base_model.model.h.0.mlp.c_fc.lora_B.weight", b),
                ("base_model.model.h.0.mlp.c_fc.lora_magnitude_vector", magnitude),
            ],
        );
        Case { adjust: |spec, _| spec.part_size = 1 << 20, ..case }
    };
    pair(MAX_RANK, 4).plan().unwrap();
    assert_eq!(pair(MAX_RANK + 1, 4).refusal().0, Kind::Unsupported);
    let widest = (12 << 20) / 8;
    pair(1, widest).plan().unwrap();
    let (kind, text) = pair(1, widest + 1).refusal();
    assert!(kind == Kind::Unsupported && text.contains("h.0.mlp.c_fc.weight"), "{text}");
}

#[test]
fn factors_that_one_report_cannot_name_are_refused_with_the_way_out() {
    let path = "m".repeat(8000);
    let modules: Vec<String> = (0..1000).map(|i| format!("{path}{i}")).collect();
    let leak = |text: String| -> &'static str { String::leak(text) };
    let base: Vec<(&'static str, &[u64])> =
        modules.iter().map(|m| (leak(format!("{m}.weight")), &[2u64, 2][..])).collect();
    let pairs: Vec<(&'static str, &[u64])> = modules
        .iter()
        .flat_map(|m| {
            [(leak(format!("{m}.lora_A.weight")), &[2u64, 2][..]), (leak(format!("{m}.lora_B.weight")), &[2, 2][..])]
        })
        .collect();
    let case = Case::new(json!({"model_type": LLAMA}), &base).adapter(json!({}), &pairs);
    case.plan().unwrap();
    let (kind, text) = Case { adjust: |spec, _| spec.part_size = 64 << 20, ..case }.refusal();
    assert!(kind == Kind::Unsupported && text.contains("part 0 of model.safetensors"), "{text}");
}

#[test]
fn more_factors_than_one_report_may_name_are_refused_with_the_way_out() {
    let leak = |text: String| -> &'static str { String::leak(text) };
    let shape = &[2u64, 2][..];
    let modules = 0..MAX_FACTORS / 2 + 1;
    let base: Vec<(&'static str, &[u64])> = modules.clone().map(|i| (leak(format!("m{i}.weight")), shape)).collect();
    let pairs: Vec<(&'static str, &[u64])> = modules
        .flat_map(|i| [(leak(format!("m{i}.lora_A.weight")), shape), (leak(format!("m{i}.lora_B.weight")), shape)])
        .collect();
    let case = Case::new(json!({"model_type": LLAMA}), &base).adapter(json!({}), &pairs);
    let (kind, text) = Case { adjust: |spec, _| spec.part_size = 64 << 20, ..case }.refusal();
    assert!(kind == Kind::Unsupported && text.contains("100002 factors"), "{text}");
}

#[test]
fn the_size_of_a_part_is_a_power_of_two_from_a_kib_to_four_gib() {
    for (size, taken) in [(512u64, false), (1024, true), (1536, false), (4 << 30, true), (8 << 30, false)] {
        let mut spec = linear().adapter(json!({}), &Q).plan().unwrap().0.spec;
        spec.part_size = size;
        assert_eq!(spec.check().map_err(|e| e.kind()), if taken { Ok(()) } else { Err(Kind::Usage) }, "{size}");
    }
}

#[test]
fn a_plan_adds_up_what_it_costs() {
    let (plan, _) = linear().adapter(json!({}), &Q).plan().unwrap();
    let cost = cost(&plan);
    let file = &plan.output.files[0];
    assert_eq!(cost.write, file.size);
    assert_eq!(cost.read, 4 * (36 + 6 + 36 + 2 * 12));
    assert_eq!(cost.multiply_adds, 36 * (2 + 1));
    assert_eq!(cost.unbounded_memory, 4 * 2 * (6 + 6) + cost.read + cost.write);
}

#[test]
fn a_measurement_is_cut_into_tasks_that_cover_its_blocks_once() {
    const COLS: u64 = 32 << 10;
    let case = Case::new(json!({"model_type": "gpt2"}), &[("h.0.mlp.c_fc.weight", &[5 * 1024 - 1, COLS])]).adapter(
        json!({"use_dora": true}),
        &[
            ("base_model.model.h.0.mlp.c_fc.lora_A.weight", &[2, 5 * 1024 - 1]),
            ("base_model.model.h.0.mlp.c_fc.lora_B.weight", &[COLS, 2]),
            ("base_model.model.h.0.mlp.c_fc.lora_magnitude_vector", &[COLS]),
        ],
    );
    let (plan, _) = Case { adjust: |spec, _| spec.part_size = 1 << 20, ..case }.plan().unwrap();
    let cut: Vec<(u32, u32, u64)> = tasks(&plan)
        .iter()
        .filter_map(|t| match t.work {
            Work::Reduce { first, end, .. } => Some((first, end, t.bytes)),
            Work::Fill { .. } => None,
        })
        .collect();
    let block = 4 * COLS * 1024;
    assert_eq!(cut, [(0, 2, 2 * block), (2, 4, 2 * block), (4, 5, block)]);
}

#[test]
fn a_bias_delta_of_dora_or_of_an_embedding_is_refused() {
    let bias = ("base_model.model.m.q_proj.lora_B.bias", &[6u64][..]);
    let dora =
        linear().adapter(json!({}), &[Q[0], Q[1], bias, ("base_model.model.m.q_proj.lora_magnitude_vector", &[6])]);
    assert_eq!(dora.refusal().0, Kind::Unsupported);
    let embedding = linear().adapter(
        json!({}),
        &[
            ("base_model.model.m.q_proj.lora_embedding_A", &[2, 6]),
            ("base_model.model.m.q_proj.lora_embedding_B", &[6, 2]),
            bias,
        ],
    );
    assert_eq!(embedding.refusal().0, Kind::Unsupported);
}

#[test]
fn two_copies_of_a_module_must_have_one_shape_and_one_dtype() {
    let saved = "base_model.model.m.q_proj.modules_to_save.weight";
    let twins = |shape: &'static [u64]| {
        linear().adapter(
            json!({"modules_to_save": ["q_proj"]}),
            &[(saved, &[6, 6]), ("base_model.model.m.q_proj.weight", shape)],
        )
    };
    assert_eq!(twins(&[6, 6]).plan().unwrap().0.equals.len(), 1);
    assert_eq!(twins(&[36]).refusal().0, Kind::Conflict);
    let other = |_: &mut MergeSpec, i: &mut Inventory| i.adapters[0].tensors[1].dtype = Dtype::BF16;
    assert_eq!(Case { adjust: other, ..twins(&[6, 6]) }.refusal().0, Kind::Conflict);
}

#[test]
fn a_convolution_of_another_width_is_told_from_one_with_groups() {
    let conv = |base: &'static [u64], a: &'static [u64]| {
        Case::new(json!({"model_type": LLAMA}), &[("m.q_proj.weight", base)])
            .adapter(json!({}), &[(Q[0].0, a), (Q[1].0, &[6, 2, 1])])
    };
    conv(&[6, 4, 2], &[2, 4, 2]).plan().unwrap();
    let kinds =
        [(&[2u64, 8, 2][..], Kind::Unsupported), (&[2, 6, 2], Kind::ShapeMismatch), (&[2, 4, 3], Kind::ShapeMismatch)];
    for (a, kind) in kinds {
        assert_eq!(conv(&[6, 4, 2], a).refusal().0, kind, "{a:?}");
    }
    assert_eq!(conv(&[6, 4, 2], &[2, 8, 2, 1]).refusal().0, Kind::ShapeMismatch);
}
