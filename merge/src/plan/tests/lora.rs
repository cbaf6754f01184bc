//! What the tensors of a LoRA become: scales, ranks, transposition, biases, magnitudes and norms.

use super::*;

#[test]
fn the_scale_follows_rslora_patterns_and_the_modules_own_rank() {
    assert_eq!(scale_of(json!({})), 2.0);
    assert_eq!(scale_of(json!({"use_rslora": true})), (4.0 / 2f64.sqrt()) as f32);
    assert_eq!(scale_of(json!({"alpha_pattern": {"q_proj": 32}})), 16.0);
    assert_eq!(
        scale_of(json!({"r": 8, "rank_pattern": {"q_proj": 2}})),
        2.0,
        "alpha stays global, the rank is the module's"
    );
    assert_eq!(scale_of(json!({"alpha_pattern": {"my_q_proj": 32}})), 2.0);
}

#[test]
fn a_rank_that_config_and_tensor_tell_differently_is_refused_with_both() {
    let (kind, text) = linear().adapter(json!({"r": 8}), &Q).refusal();
    assert_eq!(kind, Kind::RankMismatch);
    assert!(text.contains("rank 2") && text.contains("says 8"), "{text}");
    // Overlapping patterns: saving sorts keys, so the tensor's own rank is the truth where one of them agrees with it.
    let overlap = json!({"r": 8, "rank_pattern": {"m.q_proj": 4, "q_proj": 2}});
    let (_, report) = linear().adapter(overlap, &Q).plan().unwrap();
    assert!(report.warnings.iter().any(|w| w.contains("several patterns")), "{:?}", report.warnings);
}

#[test]
fn the_layer_type_decides_the_transposition_and_never_the_shape_or_the_config() {
    let square = |config: Value, fan: bool| {
        let name = "transformer.h.0.attn.c_proj";
        let base: &[(&'static str, &[u64])] = &[("transformer.h.0.attn.c_proj.weight", &[6, 6])];
        let pair: &[(&'static str, &[u64])] = &[
            ("base_model.model.transformer.h.0.attn.c_proj.lora_A.weight", &[2, 6]),
            ("base_model.model.transformer.h.0.attn.c_proj.lora_B.weight", &[6, 2]),
        ];
        let case = Case::new(config, base).adapter(json!({"fan_in_fan_out": fan}), pair);
        let delta = case.ops(&format!("{name}.weight"))[0].delta().unwrap().clone();
        (is_transposed(&delta), left(&delta).source.name.contains("lora_A"))
    };
    for fan in [true, false] {
        assert_eq!(square(json!({"model_type": "gpt2"}), fan), (true, true), "a Conv1D");
        assert_eq!(
            square(json!({"model_type": "gpt_bigcode"}), fan),
            (false, false),
            "a linear layer of the same name"
        );
    }
}

#[test]
fn a_dora_without_its_magnitude_or_a_bias_without_a_base_bias_is_refused() {
    assert_eq!(linear().adapter(json!({"use_dora": true}), &Q).refusal().0, Kind::MissingTensor);
    let v: [(&str, &[u64]); 3] = [
        ("base_model.model.m.v_proj.lora_A.weight", &[2, 6]),
        ("base_model.model.m.v_proj.lora_B.weight", &[6, 2]),
        ("base_model.model.m.v_proj.lora_B.bias", &[6]),
    ];
    let (kind, text) = linear().adapter(json!({"lora_bias": true}), &v).refusal();
    assert_eq!(kind, Kind::MissingTensor);
    assert!(text.contains("m.v_proj.bias"), "{text}");
}

#[test]
fn a_lora_bias_is_added_with_the_scale_and_a_base_layer_bias_replaces() {
    let with_bias: [(&str, &[u64]); 3] = [Q[0], Q[1], ("base_model.model.m.q_proj.lora_B.bias", &[6])];
    let case = linear().adapter(json!({"lora_bias": true}), &with_bias);
    assert!(matches!(case.ops("m.q_proj.bias")[..], [Op::Add(Add(Delta::Dense(Dense { scale: 2.0, .. })))]));
    let replaced: [(&str, &[u64]); 3] = [Q[0], Q[1], ("base_model.model.m.q_proj.base_layer.bias", &[6])];
    let case = linear().adapter(json!({"bias": "lora_only"}), &replaced);
    assert!(
        matches!(case.recipe("m.q_proj.bias"), Recipe::Fuse(f) if f.start_adapter == Some(0) && f.steps.is_empty())
    );
}

#[test]
fn a_magnitude_is_read_with_and_without_weight() {
    for name in
        ["base_model.model.m.q_proj.lora_magnitude_vector", "base_model.model.m.q_proj.lora_magnitude_vector.weight"]
    {
        let name: &'static str = name;
        let case = linear().adapter(json!({"use_dora": true}), &[Q[0], Q[1], (name, &[6])]);
        assert!(matches!(case.ops("m.q_proj.weight")[..], [Op::Dora(Dora { norm: Norm::Rows, .. })]), "{name}");
    }
}

fn conv1d_dora() -> Case {
    let pair: [(&str, &[u64]); 3] = [
        ("base_model.model.h.0.mlp.c_fc.lora_A.weight", &[2, 6]),
        ("base_model.model.h.0.mlp.c_fc.lora_B.weight", &[8, 2]),
        ("base_model.model.h.0.mlp.c_fc.lora_magnitude_vector", &[8]),
    ];
    Case::new(json!({"model_type": "gpt2"}), &[("h.0.mlp.c_fc.weight", &[6, 8])])
        .adapter(json!({"use_dora": true}), &pair)
        .adapter(json!({"use_dora": true}), &pair)
}

#[test]
fn norms_by_column_are_measured_first_and_the_second_dora_waits_for_the_first() {
    let case = conv1d_dora();
    let (plan, _) = case.plan().unwrap();
    let needs: Vec<Vec<u32>> = plan.statistics.iter().map(|m| m.needs.iter().map(|id| id.0).collect()).collect();
    assert_eq!(needs, [vec![], vec![0]]);
    assert_eq!(plan.statistics.iter().map(|m| m.steps.len()).collect::<Vec<_>>(), [1, 2]);
    let all = tasks(&plan);
    assert!(matches!(all[0].work, Work::Reduce { .. }) && all[1].after == [0]);
    // The first parts hold the header only.
    assert_eq!(all.last().unwrap().after, [0, 1], "parts wait for both");
}

#[test]
fn the_original_norm_leaves_the_first_adapter_out() {
    let case = Case { dora_norm: DoraNorm::Original, ..conv1d_dora() };
    let (plan, _) = case.plan().unwrap();
    assert_eq!(plan.statistics.iter().map(|m| (m.steps.len(), m.needs.len())).collect::<Vec<_>>(), [(1, 0), (1, 0)]);
}

#[test]
fn what_is_not_merged_yet_is_refused_by_name() {
    let stacked =
        Case::new(json!({"model_type": LLAMA}), &[("m.q_proj.weight", &[4, 6, 6])]).adapter(json!({}), &Q).refusal();
    assert!(stacked.0 == Kind::Unsupported && stacked.1.contains("stacked experts"), "{}", stacked.1);
    let groups = Case::new(json!({"model_type": LLAMA}), &[("m.q_proj.weight", &[6, 3, 2])])
        .adapter(
            json!({}),
            &[
                ("base_model.model.m.q_proj.lora_A.weight", &[2, 6, 2]),
                ("base_model.model.m.q_proj.lora_B.weight", &[6, 2, 1]),
            ],
        )
        .refusal();
    assert!(groups.0 == Kind::Unsupported && groups.1.contains("groups"), "{}", groups.1);
}
