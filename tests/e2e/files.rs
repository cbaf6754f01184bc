//! Every file of every input is used, carried to the output, or named with the reason.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::output::{assert_same, files, tensor as written};
use crate::tool::{command, fail, merge, succeed};
use shardfuse_testkit::checkpoint::{
    Model, Tensor, encode, lora, lora_with, read as tensors_of, tensor, values, write, write_json,
};

/// `torch.save({"base_model.model.model.norm.weight": torch.full((32,), 3.0)})`, as LLaVA's training saves it.
const NON_LORA: &[u8] = include_bytes!("fixtures/non_lora_trainables.bin");
const NORM: &str = "model.norm.weight";

struct Inputs {
    dir: tempfile::TempDir,
    model: Model,
    base: PathBuf,
    adapter: PathBuf,
}

impl Inputs {
    fn new() -> Inputs {
        let dir = tempfile::tempdir().unwrap();
        let model = Model { files: 1, ..Model::SMALL };
        let base = model.write(&dir.path().join("base"));
        let mut all = tensors_of(&base.join("model.safetensors"));
        all.push(tensor(NORM, Dtype::BF16, &[32]));
        write(&base.join("model.safetensors"), &all);
        let adapter = lora(&dir.path().join("adapter"), &model, 4, "a");
        Inputs { dir, model, base, adapter }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let at = self.at(name);
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, bytes).unwrap();
    }

    fn merge(&self, output: &str) -> std::process::Command {
        merge(&self.base, &[self.adapter.to_str().unwrap()], &self.at(output))
    }

    /// Merges, and holds every tensor against what it must be.
    fn merges(&self, output: &str) {
        succeed(&mut self.merge(output));
        self.assert_values(&self.at(output));
    }

    /// The refusal of a merge, which leaves nothing.
    fn refused(&self, more: &[&str]) -> (i32, String, String) {
        let said = fail(self.merge("refused").args(more));
        assert!(!self.at("refused").exists());
        said
    }

    fn plan(&self, more: &[&str]) -> (String, Value) {
        let mut plan = command();
        plan.arg("plan").arg("--base").arg(&self.base).arg("--lora").arg(&self.adapter);
        plan.args(["--output", "nowhere"]).args(more);
        let text = succeed(&mut plan);
        (text, serde_json::from_str(&succeed(plan.args(["--format", "json"]))).unwrap())
    }

    /// Every tensor is the base's, or the base's plus 2 B A within half a unit of its dtype.
    fn assert_values(&self, output: &Path) {
        let base: BTreeMap<String, Tensor> =
            tensors_of(&self.base.join("model.safetensors")).into_iter().map(|t| (t.name.clone(), t)).collect();
        for (name, t) in &base {
            let (dtype, shape, have) = written(output, name);
            assert_eq!((dtype, &shape), (t.dtype, &t.shape), "{name}");
            let start: Vec<f64> =
                t.bytes.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f64()).collect();
            let module = format!("base_model.model.{}", name.trim_end_matches(".weight"));
            let targeted = ["q_proj", "v_proj", "down_proj"].iter().any(|m| module.ends_with(m));
            let (rows, cols) = (shape[0], shape.get(1).copied().unwrap_or(1));
            let a = values(&format!("a{module}.lora_A.weight"), 4 * cols);
            let b = values(&format!("a{module}.lora_B.weight"), rows * 4);
            for (i, (have, start)) in have.iter().zip(&start).enumerate() {
                let (row, col) = (i / cols, i % cols);
                let delta: f64 = (0..4).map(|r| f64::from(b[row * 4 + r]) * f64::from(a[r * cols + col])).sum();
                let want = if targeted { start + 2.0 * delta } else { *start };
                let slack = if targeted { want.abs() / 256.0 + 1e-6 } else { 0.0 };
                assert!((f64::from(*have) - want).abs() <= slack, "{name}[{row}, {col}] is {have}, wanted {want}");
            }
        }
    }
}

/// The outcome of one file: fate, size and reason.
fn fate<'a>(files: &'a Value, name: &str) -> (&'a str, u64, &'a str) {
    let found = files.as_array().unwrap().iter().find(|f| f["name"] == name);
    let file = found.unwrap_or_else(|| panic!("{name} is not in {files}"));
    (file["fate"].as_str().unwrap(), file["size"].as_u64().unwrap(), file["why"].as_str().unwrap())
}

#[test]
fn weight_files_of_sub_folders_travel_byte_by_byte_and_are_verified() {
    let inputs = Inputs::new();
    let dense = ["base/1_Pooling/config.json", "base/2_Dense/config.json", "base/3_Dense/config.json"];
    for name in dense {
        inputs.put(name, format!("{{\"of\": {name:?}}}"));
    }
    write(&inputs.at("base/2_Dense/model.safetensors"), &[tensor("linear.weight", Dtype::F32, &[4, 4])]);
    inputs.put("base/3_Dense/pytorch_model.bin", NON_LORA);
    inputs.put("base/modules.json", r#"[{"idx": 1, "path": "2_Dense"}, {"idx": 2, "path": "3_Dense"}]"#);
    inputs.put("base/spk_dict.pt", [1, 2, 3]);
    inputs.put("base/assets/speaker.npz", [4, 5]);
    let out = inputs.at("out");
    inputs.merges("out");
    let (have, want) = (files(&out), files(&inputs.base));
    let all =
        ["2_Dense/model.safetensors", "3_Dense/pytorch_model.bin", "modules.json", "spk_dict.pt", "assets/speaker.npz"];
    for name in all.into_iter().chain(dense.iter().map(|n| n.trim_start_matches("base/"))) {
        assert!(have.get(name) == want.get(name) && have.contains_key(name), "{name}");
    }
    let manifest: Value = serde_json::from_slice(&std::fs::read(out.join("shardfuse.json")).unwrap()).unwrap();
    assert!(manifest["files"].as_array().unwrap().iter().any(|f| f["name"] == "2_Dense/model.safetensors"));
    succeed(command().arg("verify").arg(&out).args(["--sample", "2"]));
    // With an index, too: it names the model's files, and those only.
    succeed(inputs.merge("cut").args(["--max-shard-size", "20kB"]));
    succeed(command().arg("verify").arg(inputs.at("cut")));
    std::fs::write(out.join("3_Dense/pytorch_model.bin"), NON_LORA.iter().rev().copied().collect::<Vec<u8>>()).unwrap();
    let (code, kind, text) = fail(command().arg("verify").arg(&out).args(["--error-format", "json"]));
    assert_eq!((code, kind.as_str(), text.contains("3_Dense/pytorch_model.bin")), (1, "verify_failed", true), "{text}");
}

#[test]
fn what_stays_behind_is_listed_with_sizes_in_text_and_json() {
    let inputs = Inputs::new();
    inputs.put("base/consolidated.00.pth", [0; 2000]);
    inputs.put("base/model.gguf", [0; 10]);
    inputs.put("base/adapter_model.safetensors", [0; 11]);
    inputs.put("base/original/params.json", "{}");
    inputs.put("base/original/consolidated.00.pth", [0; 98]);
    inputs.put("base/.git/HEAD", "ref");
    inputs.put("adapter/optimizer.pt", [0; 30]);
    inputs.put("adapter/checkpoint-5/adapter_model.bin", [0; 40]);
    inputs.put("adapter/adapter_model.bin", "not even a pickle");
    inputs.put("adapter/README.md", "# An adapter");
    let (text, json) = inputs.plan(&[]);
    let base = &json["report"]["base_files"];
    assert_eq!(fate(base, "consolidated.00.pth").0, "stays");
    assert_eq!(fate(base, "consolidated.00.pth").1, 2000);
    assert_eq!(fate(base, "model.gguf").1, 10);
    assert_eq!(fate(base, "original/").1, 100);
    assert_eq!(fate(base, ".git/"), ("stays", 3, "a hidden folder"));
    assert!(fate(base, "adapter_model.safetensors").2.contains("once more"));
    assert_eq!(fate(base, "model.safetensors").0, "merged");
    assert_eq!(fate(base, "config.json").0, "read");
    assert_eq!(fate(base, "tokenizer.json").0, "travels");
    let adapter = &json["report"]["adapters"][0]["files"];
    assert_eq!(fate(adapter, "optimizer.pt"), ("stays", 30, "the state of training"));
    assert_eq!(fate(adapter, "checkpoint-5/").1, 40);
    assert!(fate(adapter, "adapter_model.bin").2.contains("adapter_model.safetensors counts"));
    assert_eq!(fate(adapter, "README.md").0, "stays");
    for line in [
        "stays: base: consolidated.00.pth  2.0 kB: weights in another layout",
        "stays: base: original/  100 B, 2 files: ",
        "stays: adapter 1: optimizer.pt  30 B: the state of training",
        "travels: tokenizer.json  14 B",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    inputs.merges("out");
    let names: Vec<String> = files(&inputs.at("out")).into_keys().collect();
    assert_eq!(names, ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]);
}

#[test]
fn a_tokenizer_that_is_not_taken_is_named() {
    let inputs = Inputs::new();
    inputs.put("adapter/tokenizer.json", "{\"adapter\": true}");
    let (_, json) = inputs.plan(&[]);
    let (fate_of_base, _, why) = fate(&json["report"]["base_files"], "tokenizer.json");
    assert!(fate_of_base == "stays" && why.contains("comes from") && why.ends_with("adapter"), "{why}");
    assert_eq!(fate(&json["report"]["adapters"][0]["files"], "tokenizer.json").0, "travels");
    let (_, json) = inputs.plan(&["--tokenizer", "base"]);
    assert_eq!(fate(&json["report"]["base_files"], "tokenizer.json").0, "travels");
    let adapter = fate(&json["report"]["adapters"][0]["files"], "tokenizer.json");
    assert_eq!((adapter.0, adapter.2), ("stays", "the tokenizer is the base's"));
}

#[test]
fn a_link_that_leads_nowhere_is_refused_naming_link_and_target() {
    let inputs = Inputs::new();
    let sidecar = inputs.at("base/tokenizer.json");
    std::fs::remove_file(&sidecar).unwrap();
    symlink("../../blobs/0123456789abcdef", &sidecar).unwrap();
    let says = "tokenizer.json is a link to ../../blobs/0123456789abcdef, which is not there";
    let (code, kind, text) = inputs.refused(&[]);
    assert_eq!((code, kind.as_str()), (3, "missing_file"));
    assert!(text.contains(says) && text.contains("--ignore-file tokenizer.json"), "{text}");
    succeed(inputs.merge("out").args(["--ignore-file", "tokenizer.json"]));
    inputs.assert_values(&inputs.at("out"));
    assert!(!inputs.at("out/tokenizer.json").exists());
    // The same link, copied as text by a tool that has no links.
    std::fs::remove_file(&sidecar).unwrap();
    std::fs::write(&sidecar, "../../blobs/0123456789abcdef").unwrap();
    let (code, _, text) = inputs.refused(&[]);
    assert!(code == 3 && text.contains("tokenizer.json: is the text of a link to ../../blobs/0123"), "{text}");
    std::fs::write(&sidecar, "{}").unwrap();
    for name in [
        "base/model.safetensors",
        "base/config.json",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    ] {
        let at = inputs.at(name);
        let kept = std::fs::read(&at).unwrap();
        std::fs::remove_file(&at).unwrap();
        symlink("gone", &at).unwrap();
        let (code, kind, text) = inputs.refused(&[]);
        assert_eq!((code, kind.as_str()), (3, "missing_file"), "{name}");
        assert!(text.contains("is a link to gone, which is not there") && !text.contains("--ignore-file"), "{text}");
        std::fs::remove_file(&at).unwrap();
        std::fs::write(&at, kept).unwrap();
    }
    inputs.merges("whole");
}

#[test]
fn pointers_and_parts_of_downloads_are_refused_under_any_name() {
    let inputs = Inputs::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    for (name, bytes, says) in [
        ("base/spk_dict.pt", pointer, "is a Git LFS pointer"),
        ("base/2_Dense/model.safetensors", pointer, "is a Git LFS pointer"),
        ("base/config.json", pointer, "is a Git LFS pointer"),
        ("adapter/mm_projector.bin", pointer, "is a Git LFS pointer"),
        ("base/2_Dense/pytorch_model.bin.incomplete", "x", "is left of a download"),
        ("base/.cache/huggingface/download/t.incomplete", "x", "is left of a download"),
        ("adapter/adapter_model.safetensors.part", "x", "is left of a download"),
    ] {
        let kept = std::fs::read(inputs.at(name));
        inputs.put(name, bytes);
        let (code, _, text) = inputs.refused(&[]);
        let plain = name.split_once('/').unwrap().1;
        assert!(code == 3 && text.contains(plain) && text.contains(says), "{name}: {text}");
        match kept {
            Ok(bytes) => std::fs::write(inputs.at(name), bytes).unwrap(),
            Err(_) => std::fs::remove_file(inputs.at(name)).unwrap(),
        }
    }
    inputs.merges("whole");
}

#[test]
fn links_to_folders_are_followed_and_a_circle_ends() {
    let inputs = Inputs::new();
    inputs.put("elsewhere/dense/weights.pt", [7; 70]);
    symlink("../elsewhere/dense", inputs.at("base/2_Dense")).unwrap();
    symlink(".", inputs.at("base/again")).unwrap();
    symlink("../adapter", inputs.at("adapter/self")).unwrap();
    inputs.merges("out");
    assert_eq!(std::fs::read(inputs.at("out/2_Dense/weights.pt")).unwrap(), [7; 70]);
    assert!(!inputs.at("out/again").exists());
    let (_, json) = inputs.plan(&[]);
    let (fate, _, why) = fate(&json["report"]["base_files"], "again");
    assert_eq!((fate, why), ("stays", "a link to a folder that is listed as ."));
}

#[test]
fn an_adapter_within_the_bases_folder_is_merged_and_not_carried() {
    let inputs = Inputs::new();
    let within = lora(&inputs.at("base/lora"), &inputs.model, 4, "a");
    inputs.put("base/other/weights.bin", [1]);
    succeed(&mut merge(&inputs.base, &[within.to_str().unwrap()], &inputs.at("out")));
    inputs.assert_values(&inputs.at("out"));
    assert!(inputs.at("out/other/weights.bin").exists() && !inputs.at("out/lora").exists());
}

/// The output with the norm as the extra file has it, and everything else as the adapter alone makes it.
fn assert_norm_replaced(inputs: &Inputs, output: &str) {
    let out = inputs.at(output);
    assert_eq!(written(&out, NORM), (Dtype::BF16, vec![32], vec![3.0; 32]));
    let plain = inputs.at("plain");
    if !plain.exists() {
        let alone = lora(&inputs.at("alone"), &inputs.model, 4, "a");
        succeed(&mut merge(&inputs.base, &[alone.to_str().unwrap()], &plain));
        inputs.assert_values(&plain);
    }
    for t in tensors_of(&inputs.base.join("model.safetensors")).iter().filter(|t| t.name != NORM) {
        assert_eq!(written(&out, &t.name), written(&plain, &t.name), "{}", t.name);
    }
}

#[test]
fn parameters_trained_whole_beside_the_adapter_replace_the_bases() {
    let inputs = Inputs::new();
    inputs.put("adapter/non_lora_trainables.bin", NON_LORA);
    let json: Value = serde_json::from_str(&succeed(inputs.merge("out").args(["--format", "json"]))).unwrap();
    assert_norm_replaced(&inputs, "out");
    assert!(json["notes"].to_string().contains("non_lora_trainables.bin holds 1 tensors"), "{json}");
    succeed(command().arg("verify").arg(inputs.at("out")).args(["--sample", "4"]));
    // A projector's file as safetensors, with keys as the model has them, and of the target of a delta.
    let q = "model.layers.0.self_attn.q_proj.weight";
    std::fs::remove_file(inputs.at("adapter/non_lora_trainables.bin")).unwrap();
    let zero = Tensor { name: q.into(), dtype: Dtype::F32, shape: vec![64, 64], bytes: vec![0; 64 * 64 * 4] };
    write(&inputs.at("adapter/aligner.safetensors"), &[zero]);
    succeed(&mut inputs.merge("before"));
    let (_, _, have) = written(&inputs.at("before"), q);
    let module = q.trim_end_matches(".weight");
    let a = values(&format!("abase_model.model.{module}.lora_A.weight"), 4 * 64);
    let b = values(&format!("abase_model.model.{module}.lora_B.weight"), 64 * 4);
    for (i, have) in have.iter().enumerate() {
        let delta: f32 = (0..4).map(|r| b[i / 64 * 4 + r] * a[r * 64 + i % 64]).sum();
        assert!(
            (have - 2.0 * delta).abs() <= delta.abs() / 64.0 + 1e-7,
            "the delta is added to what replaced the base"
        );
    }
}

#[test]
fn other_weight_files_are_refused_by_name_until_the_user_decides() {
    let inputs = Inputs::new();
    inputs.put("adapter/head.bin", NON_LORA);
    let (code, kind, text) = inputs.refused(&[]);
    assert_eq!((code, kind.as_str()), (3, "unused_file"));
    assert!(
        text.contains("head.bin")
            && text.contains("--extra-weights head.bin")
            && text.contains("--ignore-file head.bin")
    );
    succeed(inputs.merge("taken").args(["--extra-weights", "head.bin"]));
    assert_norm_replaced(&inputs, "taken");
    succeed(inputs.merge("left").args(["--ignore-file", "head.bin"]));
    inputs.assert_values(&inputs.at("left"));
    // From a spec file, and checked by verify, which makes the plan again from the manifest.
    let spec = json!({"base": inputs.base, "lora": [inputs.adapter], "output": inputs.at("by-file"), "extra_weights": ["head.bin"]});
    inputs.put("spec.yaml", spec.to_string());
    succeed(command().arg("merge").arg("--spec").arg(inputs.at("spec.yaml")));
    assert_norm_replaced(&inputs, "by-file");
    succeed(command().arg("verify").arg(inputs.at("by-file")).args(["--sample", "1"]));
    for (more, says) in [
        (["--extra-weights", "absent.bin"], "--extra-weights names absent.bin, which no folder"),
        (["--ignore-file", "absent.bin"], "--ignore-file names absent.bin, which no folder"),
        (["--ignore-file", "adapter_config.json"], "which the merge cannot do without"),
        (["--ignore-file", "../head.bin"], "expected the name of a file below"),
        (["--extra-weights", "adapter_model.safetensors"], "which is the adapter's own file"),
    ] {
        let (code, kind, text) =
            inputs.refused(&more.into_iter().chain(["--ignore-file", "head.bin"]).collect::<Vec<_>>());
        assert_eq!((code, kind.as_str()), (2, "usage"), "{text}");
        assert!(text.contains(says), "{text}");
    }
    let (code, _, text) = inputs.refused(&["--extra-weights", "head.bin", "--ignore-file", "head.bin"]);
    assert!(code == 2 && text.contains("head.bin is given with"), "{text}");
}

#[test]
fn a_merged_model_beside_its_adapter_is_never_taken_for_replacements() {
    let inputs = Inputs::new();
    std::fs::copy(inputs.base.join("model.safetensors"), inputs.at("adapter/model.safetensors")).unwrap();
    let (code, kind, text) = inputs.refused(&[]);
    assert_eq!((code, kind.as_str()), (3, "unused_file"));
    assert!(text.contains("model.safetensors looks like a whole model"), "{text}");
}

#[test]
fn a_tensor_that_two_files_of_an_adapter_hold_must_be_the_same() {
    let norm = |value: f32| Tensor {
        name: format!("base_model.model.{NORM}"),
        dtype: Dtype::F32,
        shape: vec![32],
        bytes: encode(Dtype::F32, &[value; 32]),
    };
    for (value, same) in [(3.0, true), (2.0, false)] {
        let inputs = Inputs::new();
        inputs.put("adapter/non_lora_trainables.bin", NON_LORA);
        lora_with(&inputs.adapter, &inputs.model, 4, "a", json!({"modules_to_save": ["norm"]}), vec![norm(value)]);
        if same {
            succeed(&mut inputs.merge("out"));
            assert_norm_replaced(&inputs, "out");
        } else {
            let (code, kind, text) = inputs.refused(&[]);
            assert_eq!((code, kind.as_str()), (3, "conflict"));
            assert!(text.contains("must be equal") && text.contains("non_lora_trainables.bin"), "{text}");
        }
    }
}

#[test]
fn a_sharded_adapter_gives_the_bytes_of_the_whole_one() {
    let inputs = Inputs::new();
    inputs.merges("whole");
    let single = inputs.at("adapter/adapter_model.safetensors");
    let mut all = tensors_of(&single);
    std::fs::remove_file(single).unwrap();
    let mut map = serde_json::Map::new();
    let rest = all.split_off(5);
    for (file, part) in
        [("adapter_model-00001-of-00002.safetensors", all), ("adapter_model-00002-of-00002.safetensors", rest)]
    {
        write(&inputs.adapter.join(file), &part);
        map.extend(part.iter().map(|t| (t.name.clone(), Value::from(file))));
    }
    let index = inputs.at("adapter/adapter_model.safetensors.index.json");
    write_json(&index, &json!({"metadata": {}, "weight_map": map}));
    inputs.merges("sharded");
    assert_same(&inputs.at("whole"), &inputs.at("sharded"));
    map.remove(&map.keys().next().unwrap().clone());
    write_json(&index, &json!({"weight_map": map}));
    let (code, kind, text) = inputs.refused(&[]);
    assert!(code == 3 && kind == "bad_index" && text.contains("which the index does not list"), "{kind} {text}");
}

#[test]
fn a_file_with_two_adapters_is_refused_naming_both() {
    let inputs = Inputs::new();
    let single = inputs.at("adapter/adapter_model.safetensors");
    let mut all = tensors_of(&single);
    for (i, t) in all.iter_mut().enumerate() {
        let name = if i < 6 { "default" } else { "reward" };
        t.name = t.name.replace(".weight", &format!(".{name}.weight"));
    }
    write(&single, &all);
    let (code, kind, text) = inputs.refused(&[]);
    assert!(code == 3 && kind == "conflict" && text.contains("default") && text.contains("reward"), "{kind} {text}");
}

/// A configuration with what Python reads and writes beyond standard JSON.
const CONFIG: &str = "\u{feff}{\n  \"big\": 123456789012345678901234567890,\n  \"model_type\": \"llama\",\n  \
    \"time_step_limit\": [\n    0.0,\n    Infinity\n  ],\n  \"not\": NaN,\n  \"low\": -Infinity,\n  \
    \"torch_dtype\": \"bfloat16\",\n  \"vocab_size\": 96,\n  \"tie_word_embeddings\": false\n}";

#[test]
fn a_configuration_with_infinity_and_big_integers_keeps_them_also_when_it_is_rewritten() {
    let inputs = Inputs::new();
    inputs.put("base/config.json", CONFIG);
    inputs.merges("out");
    let plain = CONFIG.trim_start_matches('\u{feff}');
    assert_eq!(std::fs::read_to_string(inputs.at("out/config.json")).unwrap(), plain);
    succeed(inputs.merge("f16").args(["--dtype", "f16"]));
    let rewritten = std::fs::read_to_string(inputs.at("f16/config.json")).unwrap();
    assert_eq!(rewritten, plain.replace("bfloat16", "float16") + "\n");
    let shown = succeed(command().arg("inspect").arg(&inputs.base).args(["--format", "json"]));
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["config"]["time_step_limit"], json!([0.0, "Infinity"]));
}

#[test]
fn an_adapters_configuration_may_begin_with_a_byte_order_mark() {
    let inputs = Inputs::new();
    let at = inputs.at("adapter/adapter_config.json");
    let text = std::fs::read_to_string(&at).unwrap().replacen('{', "{\"lora_dropout\": NaN,", 1);
    std::fs::write(at, format!("\u{feff}{text}")).unwrap();
    inputs.merges("out");
}

#[test]
fn a_configuration_that_is_too_long_or_takes_too_much_memory_is_refused() {
    let inputs = Inputs::new();
    for name in ["base/config.json", "adapter/adapter_config.json"] {
        let kept = std::fs::read(inputs.at(name)).unwrap();
        for (bytes, says) in [
            (vec![b' '; (8 << 20) + 1], "has 8388609 bytes, at most 8388608 are read"),
            (format!("[{}0]", "{\"\":0},".repeat(1 << 20)).into_bytes(), "more than 64 MiB of memory"),
        ] {
            inputs.put(name, bytes);
            let (code, kind, text) = inputs.refused(&[]);
            assert_eq!((code, kind.as_str()), (3, "bad_config"), "{text}");
            assert!(text.contains(says), "{text}");
        }
        inputs.put(name, kept);
    }
}

#[test]
fn a_header_whose_metadata_is_null_is_one_without() {
    let inputs = Inputs::new();
    let at = inputs.at("base/model.safetensors");
    let bytes = std::fs::read(&at).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    let header = header.replacen(r#"{"format":"pt"}"#, "null", 1);
    assert!(header.contains(r#""__metadata__":null"#));
    std::fs::write(&at, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + length..]].concat())
        .unwrap();
    succeed(&mut inputs.merge("out"));
    std::fs::write(&at, bytes).unwrap();
    inputs.assert_values(&inputs.at("out"));
    let written = std::fs::read(inputs.at("out/model.safetensors")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&written).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
}
