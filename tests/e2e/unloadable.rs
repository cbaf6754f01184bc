//! Merges that used to end well with an output that was wrong, or that no loader reads.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::output::tensor as read;
use crate::tool::{command, fail, merge, succeed};
use shardfuse_testkit::checkpoint::{Tensor, encode, tensor, values, write, write_json};

/// A base of one file.
fn base(dir: &Path, config: Value, tensors: &[Tensor]) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    write_json(&dir.join("config.json"), &config);
    write(&dir.join("model.safetensors"), tensors);
    dir.into()
}

fn adapter(dir: &Path, config: Value, tensors: &[Tensor]) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let mut all = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4});
    all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    write_json(&dir.join("adapter_config.json"), &all);
    write(&dir.join("adapter_model.safetensors"), tensors);
    dir.into()
}

fn f32(name: &str, shape: &[usize]) -> Tensor {
    tensor(name, Dtype::F32, shape)
}

fn pair(module: &str, out: usize, input: usize) -> [Tensor; 2] {
    [
        f32(&format!("base_model.model.{module}.lora_A.weight"), &[2, input]),
        f32(&format!("base_model.model.{module}.lora_B.weight"), &[out, 2]),
    ]
}

/// `w + scale * left @ right` at [row, col], in f64; `left` is [rows, 2], `right` is [2, cols].
fn merged(
    w: &[f32],
    scale: f64,
    left: impl Fn(usize, usize) -> f32,
    right: impl Fn(usize, usize) -> f32,
    cols: usize,
) -> Vec<f32> {
    let at = |i: usize| {
        let sum: f64 = (0..2).map(|k| f64::from(left(i / cols, k)) * f64::from(right(k, i % cols))).sum();
        (f64::from(w[i]) + scale * sum) as f32
    };
    (0..w.len()).map(at).collect()
}

#[track_caller]
fn assert_near(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-6, "off by {worst}");
}

#[test]
fn a_square_conv1d_of_custom_code_is_merged_transposed() {
    let dir = tempfile::tempdir().unwrap();
    let name = "transformer.h.0.attn.c_proj";
    let model = base(
        &dir.path().join("base"),
        json!({"model_type": "jais", "torch_dtype": "float32"}),
        &[f32("transformer.h.0.attn.c_attn.weight", &[8, 24]), f32(&format!("{name}.weight"), &[8, 8])],
    );
    let lora = adapter(&dir.path().join("a"), json!({"fan_in_fan_out": true}), &pair(name, 8, 8));
    let out = dir.path().join("out");
    succeed(&mut merge(&model, &[lora.to_str().unwrap()], &out));
    let [a, b] = pair(name, 8, 8).map(|t| values(&t.name, 16));
    let w = values(&format!("{name}.weight"), 64);
    // W is [in, out]: the delta is (B @ A)^T = A^T @ B^T.
    let expected = merged(&w, 2.0, |row, k| a[k * 8 + row], |k, col| b[col * 2 + k], 8);
    assert_near(&read(&out, &format!("{name}.weight")).2, &expected);
}

#[test]
fn a_trained_head_of_a_model_that_says_it_is_tied_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (embed, head) = ("model.embed_tokens.weight", "lm_head.weight");
    let config = json!({"model_type": "llama", "tie_word_embeddings": true, "vocab_size": 10});
    let model = base(&dir.path().join("base"), config, &[f32(embed, &[10, 6]), f32(head, &[10, 6])]);
    let factors = [
        f32("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 10]),
        f32("base_model.model.model.embed_tokens.lora_embedding_B", &[6, 2]),
    ];
    let lora = adapter(&dir.path().join("a"), json!({}), &factors);
    let lora = lora.to_str().unwrap();
    let (a, b) = (values(&factors[0].name, 20), values(&factors[1].name, 12));
    let expected = merged(&values(embed, 60), 2.0, |row, k| a[k * 10 + row], |k, col| b[col * 2 + k], 6);
    for (flag, name) in [(None, "by-values"), (Some("false"), "by-flag")] {
        let out = dir.path().join(name);
        succeed(merge(&model, &[lora], &out).args(flag.map(|f| ["--tied", f]).into_iter().flatten()));
        assert_eq!(read(&out, head).2, values(head, 60), "the head is the base's");
        assert_near(&read(&out, embed).2, &expected);
        let config: Value = serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
        assert_eq!(config["tie_word_embeddings"], false);
    }
    let (code, kind, text) = fail(merge(&model, &[lora], &dir.path().join("no")).args(["--tied", "true"]));
    assert_eq!((code, kind.as_str()), (3, "conflict"));
    assert!(text.contains(embed) && text.contains(head), "{text}");

    // The same values twice are one tensor.
    let mut copy = f32(embed, &[10, 6]);
    copy.name = head.into();
    write(&model.join("model.safetensors"), &[f32(embed, &[10, 6]), copy]);
    let out = dir.path().join("one");
    let plan = succeed(command().args(["plan", "--base"]).arg(&model).args(["--lora", lora, "--output"]).arg(&out));
    let said = format!("{head} holds the same values as {embed} (240 B of each were read to tell)");
    assert!(plan.contains(&said), "{plan}");
    succeed(&mut merge(&model, &[lora], &out));
    assert_eq!(read(&out, head).2, read(&out, embed).2);
    assert_near(&read(&out, head).2, &expected);
}

/// A base of one layer, and its module.
fn one_layer(dir: &Path) -> (PathBuf, &'static str) {
    let module = "model.layers.0.self_attn.q_proj";
    (base(dir, json!({"model_type": "llama"}), &[f32(&format!("{module}.weight"), &[8, 8])]), module)
}

#[test]
fn a_scale_beyond_fp32_is_refused_and_leaves_the_output_free() {
    let dir = tempfile::tempdir().unwrap();
    let (model, module) = one_layer(&dir.path().join("base"));
    let bad = adapter(&dir.path().join("bad"), json!({"lora_alpha": 1e39}), &pair(module, 8, 8));
    let good = adapter(&dir.path().join("good"), json!({}), &pair(module, 8, 8));
    let out = dir.path().join("out");
    let mut plan = command();
    plan.args(["plan", "--error-format", "json", "--output"])
        .arg(&out)
        .arg("--base")
        .arg(&model)
        .arg("--lora")
        .arg(&bad);
    let heavy = format!("{}=1e39", good.display());
    for refused in [&mut plan, &mut merge(&model, &[bad.to_str().unwrap()], &out), &mut merge(&model, &[&heavy], &out)]
    {
        let (code, kind, text) = fail(refused);
        assert_eq!((code, kind.as_str()), (3, "bad_config"));
        assert!(text.contains(module) && text.contains("fp32"), "{text}");
        assert!(!out.exists());
    }
    succeed(&mut merge(&model, &[good.to_str().unwrap()], &out));
}

#[test]
fn a_weight_of_seventeen_digits_is_stored_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let (model, module) = one_layer(&dir.path().join("base"));
    let good = adapter(&dir.path().join("good"), json!({}), &pair(module, 8, 8));
    for weight in ["0.30000000000000004", "1.1754943508222875e-38", "0.12345678901234568"] {
        let out = dir.path().join(weight);
        // The smallest one changes nothing.
        succeed(merge(&model, &[&format!("{}={weight}", good.display())], &out).arg("--allow-no-change"));
    }
}

#[test]
fn a_pattern_that_backtracks_gives_its_scale_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (model, module) = one_layer(&dir.path().join("base"));
    let lora = |times: usize| {
        let key = format!(r"(?:{}!)|model\.layers\.0\.self_attn\.q_proj", "(?:(?=.).)*".repeat(times));
        adapter(&dir.path().join(format!("a{times}")), json!({"alpha_pattern": {key: 100.0}}), &pair(module, 8, 8))
    };
    let out = dir.path().join("out");
    succeed(&mut merge(&model, &[lora(3).to_str().unwrap()], &out));
    let [a, b] = pair(module, 8, 8).map(|t| values(&t.name, 16));
    let w = values(&format!("{module}.weight"), 64);
    let expected = merged(&w, 50.0, |row, k| b[row * 2 + k], |k, col| a[k * 8 + col], 8);
    assert_near(&read(&out, &format!("{module}.weight")).2, &expected);
    let refused = dir.path().join("refused");
    let (code, kind, text) = fail(&mut merge(&model, &[lora(6).to_str().unwrap()], &refused));
    assert_eq!((code, kind.as_str()), (3, "bad_config"));
    assert!(text.contains("alpha_pattern") && text.contains("(?=.)"), "{text}");
    assert!(!refused.exists());
}

#[test]
fn a_shard_with_a_name_of_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (model, module) = one_layer(&dir.path().join("base"));
    let name = ".shardfuse-tmp-1.safetensors";
    std::fs::rename(model.join("model.safetensors"), model.join(name)).unwrap();
    let map = json!({"metadata": {"total_size": 256}, "weight_map": {format!("{module}.weight"): name}});
    write_json(&model.join("model.safetensors.index.json"), &map);
    let lora = adapter(&dir.path().join("a"), json!({}), &pair(module, 8, 8));
    let out = dir.path().join("out");
    let (code, kind, text) = fail(&mut merge(&model, &[lora.to_str().unwrap()], &out));
    assert_eq!((code, kind.as_str()), (3, "unsafe_path"));
    assert!(text.contains(name) && !out.exists(), "{text}");
}

#[test]
fn an_embedding_without_dimensions_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let module = "model.layers.0.self_attn.q_proj";
    let tensors = [f32("model.embed_tokens.weight", &[]), f32(&format!("{module}.weight"), &[8, 8])];
    let model = base(&dir.path().join("base"), json!({"model_type": "llama"}), &tensors);
    let lora = adapter(&dir.path().join("a"), json!({}), &pair(module, 8, 8));
    let (code, kind, text) = fail(&mut merge(&model, &[lora.to_str().unwrap()], &dir.path().join("out")));
    assert_eq!((code, kind.as_str()), (3, "shape_mismatch"));
    assert!(text.contains("model.embed_tokens.weight"), "{text}");
}

#[test]
fn a_vocabulary_grows_where_the_language_model_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["language_model.model.embed_tokens.weight", "language_model.lm_head.weight"];
    let config = json!({"model_type": "internvl_chat", "tie_word_embeddings": false, "llm_config": {"vocab_size": 10}});
    let model = base(&dir.path().join("base"), config, &names.map(|n| f32(n, &[10, 6])));
    let saved = names.map(|n| f32(&format!("base_model.model.{n}"), &[12, 6]));
    let lora = adapter(&dir.path().join("a"), json!({"modules_to_save": ["embed_tokens", "lm_head"]}), &saved);
    let out = dir.path().join("out");
    succeed(&mut merge(&model, &[lora.to_str().unwrap()], &out));
    let config: Value = serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["llm_config"]["vocab_size"], 12);
    assert!(config.get("vocab_size").is_none(), "{config}");
    assert_eq!(read(&out, names[0]).2, values(&saved[0].name, 72));
}

#[test]
fn a_hundred_and_fifty_thousand_tensors_in_one_part_are_merged() {
    const MANY: usize = 150_000;
    let dir = tempfile::tempdir().unwrap();
    let module = "model.layers.0.self_attn.q_proj";
    let name = |i: usize| format!("model.layers.{i}.a_module_with_a_name_of_a_usual_length.inner.weight");
    let mut tensors = vec![f32(&format!("{module}.weight"), &[8, 8])];
    let value = |i: usize| i as f32 / 8.0;
    tensors.extend((0..MANY).map(|i| Tensor {
        name: name(i),
        dtype: Dtype::F32,
        shape: vec![1],
        bytes: encode(Dtype::F32, &[value(i)]),
    }));
    let model = base(&dir.path().join("base"), json!({"model_type": "llama"}), &tensors);
    let lora = adapter(&dir.path().join("a"), json!({}), &pair(module, 8, 8));
    let out = dir.path().join("out");
    // Every tensor is converted, so each is described by itself.
    let mut merge = command();
    merge.arg("merge").arg("--base").arg(&model).arg("--lora").arg(&lora).arg("--output").arg(&out);
    succeed(merge.args(["--dtype", "bf16", "--memory", "1GiB", "--quiet"]));
    let bytes = std::fs::read(out.join("model.safetensors")).unwrap();
    assert!(bytes.len() < 64 << 20, "one part of the default size");
    let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(parsed.len(), MANY + 1);
    for i in (0..MANY).step_by(997) {
        let view = parsed.tensor(&name(i)).unwrap();
        assert_eq!((view.dtype(), view.data()), (Dtype::BF16, &half::bf16::from_f32(value(i)).to_le_bytes()[..]));
    }
}
