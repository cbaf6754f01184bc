//! Planning over inventories that are written down by hand: no file is read.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::task::{Work, tasks};
use super::{Plan, report::Report};
use crate::adapter::config::AdapterConfig;
use crate::error::{Kind, Result};
use crate::inventory::{AdapterInventory, BaseInventory, Comparison, Inventory, Object, ObjectId, Shard, Source};
use crate::recipe::{Add, Delta, Dense, Dora, DoraNorm, Norm, Op, Operand, Recipe};
use crate::spec::{LoraSpec, MergeSpec};
use crate::tensor::Dtype;
use crate::tensor::Order;

fn source(object: u32, name: &str, shape: &[u64]) -> Source {
    Source { name: name.into(), object: ObjectId(object), offset: 64, dtype: Dtype::F32, shape: shape.into() }
}

/// Tensor names and shapes.
type Shapes = Vec<(&'static str, Vec<u64>)>;

struct Case {
    config: Value,
    base: Shapes,
    adapters: Vec<(Value, Shapes)>,
    weights: Vec<f64>,
    dora_norm: DoraNorm,
    /// Changes what is planned at last.
    adjust: fn(&mut MergeSpec, &mut Inventory),
}

impl Case {
    fn new(config: Value, base: &[(&'static str, &[u64])]) -> Case {
        let base = base.iter().map(|(n, s)| (*n, s.to_vec())).collect();
        Case {
            config,
            base,
            adapters: Vec::new(),
            weights: Vec::new(),
            dora_norm: DoraNorm::Standing,
            adjust: |_, _| (),
        }
    }

    fn adapter(mut self, config: Value, tensors: &[(&'static str, &[u64])]) -> Case {
        self.adapters.push((config, tensors.iter().map(|(n, s)| (*n, s.to_vec())).collect()));
        self.weights.push(1.0);
        self
    }

    fn plan(&self) -> Result<(Plan, Report)> {
        let (spec, inventory) = self.inputs()?;
        Plan::new(spec, &inventory)
    }

    fn inputs(&self) -> Result<(MergeSpec, Inventory)> {
        let object = |url: String| Object { url, size: 1 << 30, pin: "p".into(), seen: "s".into() };
        // Two tensors at one place are one.
        let at = |i: usize| 64 + ((i as u64) << 20);
        let tensors =
            self.base.iter().enumerate().map(|(i, (n, s))| Source { offset: at(i), ..source(0, n, s) }).collect();
        let shard = Shard { name: "model.safetensors".into(), metadata: BTreeMap::new(), tensors };
        let base = BaseInventory {
            url: "base".into(),
            config_bytes: self.config.to_string().into_bytes(),
            config: self.config.clone(),
            shards: vec![shard],
            indexed: false,
            sidecars: Vec::new(),
            compared: self.base.iter().filter(|(name, _)| *name == HEAD).map(|_| compared(HEAD, true)).collect(),
            files: Vec::new(),
            skipped: Vec::new(),
            listed: true,
        };
        let mut objects = vec![object("base/model.safetensors".into())];
        let mut adapters = Vec::new();
        for (i, (config, tensors)) in self.adapters.iter().enumerate() {
            let mut all = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4});
            all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
            adapters.push(AdapterInventory {
                url: format!("adapter{i}"),
                config: AdapterConfig::parse(all.to_string().as_bytes())?,
                tensors: tensors.iter().map(|(n, s)| source(i as u32 + 1, n, s)).collect(),
                extra: Vec::new(),
                sidecars: Vec::new(),
                skipped: Vec::new(),
                files: Vec::new(),
            });
            objects.push(object(format!("adapter{i}/adapter_model.safetensors")));
        }
        let lora = self.weights.iter().enumerate().map(|(i, w)| LoraSpec { path: format!("adapter{i}"), weight: *w });
        let mut spec = MergeSpec { part_size: 1024, dora_norm: self.dora_norm, ..MergeSpec::of("base", lora, "out") };
        let mut inventory = Inventory { objects, base, adapters, tokenizer: None };
        (self.adjust)(&mut spec, &mut inventory);
        Ok((spec, inventory))
    }

    fn recipe(&self, name: &str) -> Recipe {
        let (plan, _) = self.plan().unwrap();
        let found = plan.output.files.iter().flat_map(|f| &f.tensors).find(|t| t.name == name);
        found.unwrap_or_else(|| panic!("{name} is not in the output")).recipe.clone()
    }

    fn ops(&self, name: &str) -> Vec<Op> {
        match self.recipe(name) {
            Recipe::Copy(_) => Vec::new(),
            Recipe::Fuse(f) => f.steps.into_iter().map(|s| s.op).collect(),
        }
    }

    fn refusal(&self) -> (Kind, String) {
        let error = self.plan().expect_err("this is refused");
        (error.kind(), error.message().to_owned())
    }
}

/// What a comparison of the embedding with its copy found.
fn compared(copy: &str, same: bool) -> Comparison {
    Comparison { left: E.into(), right: copy.into(), same, read: 240 }
}

mod bounds;
mod chain;
mod embeddings;
mod experts;
mod heads;
mod kinds;
mod layout;
mod quantised;
mod ties;
mod transposed;

const LLAMA: &str = "llama";

fn linear() -> Case {
    Case::new(
        json!({"model_type": LLAMA}),
        &[("m.q_proj.weight", &[6, 6]), ("m.q_proj.bias", &[6]), ("m.v_proj.weight", &[6, 6])],
    )
}

const Q: [(&str, &[u64]); 2] =
    [("base_model.model.m.q_proj.lora_A.weight", &[2, 6]), ("base_model.model.m.q_proj.lora_B.weight", &[6, 2])];

fn scale_of(config: Value) -> f32 {
    let case = linear().adapter(config, &Q);
    case.ops("m.q_proj.weight")[0].delta().unwrap().scale()
}

/// The first operand of a delta: the left factor of a low-rank one.
fn left(delta: &Delta) -> &Operand {
    delta.inputs()[0].operand
}

fn is_transposed(delta: &Delta) -> bool {
    left(delta).view.order() == Some(Order::ColumnMajor)
}

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
    assert!(all[2..].iter().all(|t| t.after == [0, 1]), "parts wait for both");
}

#[test]
fn the_original_norm_leaves_the_first_adapter_out() {
    let case = Case { dora_norm: DoraNorm::Original, ..conv1d_dora() };
    let (plan, _) = case.plan().unwrap();
    assert_eq!(plan.statistics.iter().map(|m| (m.steps.len(), m.needs.len())).collect::<Vec<_>>(), [(1, 0), (1, 0)]);
}

const E: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

fn tied(physical_head: bool) -> Case {
    let mut base: Vec<(&'static str, &[u64])> = vec![(E, &[10, 6]), ("model.q.weight", &[6, 6])];
    if physical_head {
        base.push(("lm_head.weight", &[10, 6]));
    }
    Case::new(json!({"model_type": LLAMA, "tie_word_embeddings": true, "vocab_size": 10}), &base)
}

fn config_of(case: &Case) -> Value {
    match case.plan().unwrap().0.output.config {
        crate::output::SmallFile::Text(text) => serde_json::from_str(&text).unwrap(),
        crate::output::SmallFile::Copy(_) => panic!("config.json is written by us"),
    }
}

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

#[test]
fn a_plan_is_read_back_as_it_was_and_a_difference_is_named() {
    let (plan, _) = linear().adapter(json!({}), &Q).plan().unwrap();
    let again = Plan::from_bytes(&plan.to_bytes()).unwrap();
    assert_eq!(again, plan);
    assert_eq!(again.digest(), plan.digest());
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
        prop_assert_eq!(parts, (0..file.parts(1024)).collect::<Vec<_>>());
    }
}
