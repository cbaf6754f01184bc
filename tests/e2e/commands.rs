//! plan, inspect, verify, and what merge prints.

use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::tool::{command, fail, merge, run, succeed};
use shardfuse_testkit::checkpoint::{Model, lora, lora_with, tensor};

fn setup(dir: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let model = Model::SMALL;
    let base = model.write(&dir.join("base"));
    let more =
        vec![tensor("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", Dtype::F32, &[2, 64])];
    let adapter =
        lora_with(&dir.join("a"), &model, 4, "a", json!({"trainable_token_indices": [3, 90], "new_key": 1}), more);
    (base, adapter)
}

#[test]
fn plan_tells_what_a_merge_would_do_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = setup(dir.path());
    let out = dir.path().join("out");
    let args = |c: &mut std::process::Command| {
        c.arg("plan").arg("--base").arg(&base).arg("--lora").arg(&adapter).arg("--output").arg(&out);
    };
    let mut plan = command();
    args(&mut plan);
    let text = succeed(&mut plan);
    for part in [
        "LoRA + trainable tokens",
        "rank",
        "model-00001-of-00002.safetensors",
        "new_key",
        "read ",
        "write ",
        "memory ",
        "plan ",
    ] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    let mut plan = command();
    args(&mut plan);
    let value: Value = serde_json::from_str(&succeed(plan.args(["--format", "json"]))).unwrap();
    assert_eq!(value["report"]["adapters"][0]["modules"], 6);
    assert_eq!(value["report"]["adapters"][0]["scales"][0], 2.0);
    assert_eq!(value["report"]["adapters"][0]["token_rows"], 2);
    assert!(!out.exists());
    let mut merge = command();
    merge.arg("merge").arg("--base").arg(&base).arg("--lora").arg(&adapter).arg("--output").arg(&out);
    let merged: Value = serde_json::from_str(&succeed(merge.args(["--format", "json"]))).unwrap();
    assert_eq!(merged["plan"], value["plan"], "plan and merge agree on the plan");
}

#[test]
fn the_page_of_a_plan_needs_nothing_else_and_takes_no_name_for_markup() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::SMALL;
    let base = model.write(&dir.path().join("base"));
    let name = "<script>alert(1)</script>\"'&";
    // A name with a slash is a folder in a folder.
    let saved = || vec![tensor("base_model.model.lm_head.modules_to_save.weight", Dtype::F32, &[96, 64])];
    let with = |name: &str| {
        lora_with(&dir.path().join(name), &model, 4, name, json!({"modules_to_save": ["lm_head"]}), saved())
    };
    let (adapter, other) = (with(name), with("other"));
    let page = dir.path().join("plan.html");
    let mut plan = command();
    plan.arg("plan").arg("--base").arg(&base).arg("--lora").arg(&adapter).arg("--lora").arg(&other);
    let text = succeed(plan.arg("--html").arg(&page));
    assert!(text.contains("tensors change"), "the text is printed all the same: {text}");
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"), "the place is not there: {html}");
    for never in ["<script", "<img", "<link", "src=", "href=", "url(", "@import", "alert(1)</script>"] {
        assert!(!html.contains(never), "{never:?} is in the page");
    }
    for part in [
        "default-src 'none'",
        "Conflicts",
        "changed by several steps",
        "read base and adapters",
        "model-00001-of-00002.safetensors",
    ] {
        assert!(html.contains(part), "{part:?} is missing in {html}");
    }
    // A second one replaces it.
    let mut plan = command();
    plan.arg("plan").arg("--base").arg(&base).arg("--lora").arg(&adapter).arg("--html").arg(&page);
    succeed(&mut plan);
    assert!(!std::fs::read_to_string(&page).unwrap().contains("changed by several steps"));
}

#[test]
fn plan_reads_no_tensor_data() {
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = setup(dir.path());
    // A sparse base of 200 GB: whoever reads its data takes minutes.
    let file = base.join("model-00002-of-00002.safetensors");
    let rows: u64 = 100_000_000_000 / 64;
    let header =
        format!(r#"{{"lm_head.weight":{{"dtype":"BF16","shape":[{rows},64],"data_offsets":[0,{}]}}}}"#, rows * 128);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    let total = bytes.len() as u64 + rows * 128;
    std::fs::write(&file, bytes).unwrap();
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(total).unwrap();
    let names: Vec<String> = safetensors_names(&base.join("model-00001-of-00002.safetensors"));
    let map: serde_json::Map<String, Value> = names
        .iter()
        .map(|n| (n.clone(), json!("model-00001-of-00002.safetensors")))
        .chain([("lm_head.weight".to_owned(), json!("model-00002-of-00002.safetensors"))])
        .collect();
    std::fs::write(base.join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).unwrap();
    // Layer 1 lies in the second file of the fixture, so this adapter has strays; drop them by making an adapter of layer 0.
    let one = lora(&dir.path().join("one"), &Model { layers: 1, ..Model::SMALL }, 4, "a");
    let _ = adapter;
    let mut plan = command();
    plan.arg("plan").arg("--base").arg(&base).arg("--lora").arg(&one).args(["--output", "nowhere", "--format", "json"]);
    let value: Value = serde_json::from_str(&succeed(&mut plan)).unwrap();
    assert!(value["bytes_written"].as_u64().unwrap() > 200_000_000_000, "{}", value["bytes_written"]);
}

fn safetensors_names(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    safetensors::SafeTensors::deserialize(&bytes).unwrap().names().into_iter().map(str::to_owned).collect()
}

#[test]
fn inspect_lists_tensors_of_checkpoint_adapter_and_file() {
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = setup(dir.path());
    for (path, kind, name) in [
        (base.clone(), "checkpoint", "lm_head.weight"),
        (adapter.clone(), "adapter", "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"),
        (base.join("model-00002-of-00002.safetensors"), "file", "lm_head.weight"),
    ] {
        assert!(succeed(command().arg("inspect").arg(&path)).contains(name));
        let value: Value =
            serde_json::from_str(&succeed(command().arg("inspect").arg(&path).args(["--format", "json"]))).unwrap();
        assert_eq!(value["kind"], kind);
        let file = value["tensors"][0]["file"].as_str().unwrap();
        assert!(file.ends_with(".safetensors"), "{file:?} is not the name of a file");
        assert!(value["tensors"].as_array().unwrap().iter().any(|t| t["name"] == name));
    }
}

#[test]
fn verify_recomputes_and_notices_a_flipped_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = setup(dir.path());
    let out = dir.path().join("out");
    succeed(&mut merge(&base, &[adapter.to_str().unwrap()], &out));
    let value: Value =
        serde_json::from_str(&succeed(command().arg("verify").arg(&out).args(["--sample", "8", "--format", "json"])))
            .unwrap();
    let q = &value["sample"]["model.layers.*.self_attn.q_proj.weight"];
    assert_eq!(
        (q["tensors"].as_u64(), q["rows"].as_u64(), q["wrong"].as_u64()),
        (Some(2), Some(16), Some(0)),
        "{value}"
    );
    let ulp = q["worst_ulp"].as_f64().unwrap();
    assert!(ulp > 0.1 && ulp < 0.6, "a rounded bf16 result is about half an ulp off, not {ulp}");

    let file = out.join("model-00001-of-00002.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (code, kind, text) = fail(command().arg("verify").arg(&out).args(["--error-format", "json", "--quiet"]));
    assert_eq!((code, kind.as_str()), (1, "verify_failed"));
    assert!(text.contains("model-00001-of-00002.safetensors"), "{text}");
}

#[test]
fn verify_tells_each_problem_once() {
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = setup(dir.path());
    let out = dir.path().join("out");
    succeed(&mut merge(&base, &[adapter.to_str().unwrap()], &out));
    // A file that is not there fits neither its digest nor the index.
    let gone = "model-00001-of-00002.safetensors";
    std::fs::remove_file(out.join(gone)).unwrap();
    let told = |flags: &[&str]| {
        let told = run(command().arg("verify").arg(&out).args(flags));
        assert_eq!(told.status.code(), Some(1));
        String::from_utf8([told.stdout, told.stderr].concat()).unwrap()
    };
    let text = told(&[]);
    assert_eq!(text.matches(gone).count(), 1, "{text}");
    assert_eq!(told(&["--quiet"]), text, "the error has it all");

    std::fs::remove_file(out.join("generation_config.json")).unwrap();
    let text = told(&[]);
    for file in [gone, "generation_config.json"] {
        assert_eq!(text.matches(file).count(), 1, "{file}: {text}");
    }
}

#[test]
fn verify_sample_catches_a_wrong_weight_under_a_right_digest() {
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = setup(dir.path());
    let out = dir.path().join("out");
    succeed(&mut merge(&base, &[adapter.to_str().unwrap()], &out));
    // Somebody changes the first row of a tensor and the manifest with it.
    let name = "model-00001-of-00002.safetensors";
    let file = out.join(name);
    let mut bytes = std::fs::read(&file).unwrap();
    let data = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[data + 3] ^= 0x10;
    std::fs::write(&file, &bytes).unwrap();
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(out.join("shardfuse.json")).unwrap()).unwrap();
    for f in manifest["files"].as_array_mut().unwrap() {
        if f["name"] == name {
            f["blake3"] = blake3::hash(&bytes).to_hex().to_string().into();
        }
    }
    std::fs::write(out.join("shardfuse.json"), manifest.to_string()).unwrap();
    succeed(command().arg("verify").arg(&out));
    let (code, kind, _) = fail(command().arg("verify").arg(&out).args(["--sample", "96", "--error-format", "json"]));
    assert_eq!((code, kind.as_str()), (1, "verify_failed"));
}

#[test]
fn a_spec_file_means_the_same_as_flags_and_flags_win() {
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = setup(dir.path());
    let spec = dir.path().join("merge.yaml");
    let text = format!(
        "base: {}\nlora:\n  - {}\noutput: {}\npart_size: 4KiB\nmemory: 32MiB\ndtype: f32\n",
        base.display(),
        adapter.display(),
        dir.path().join("by-file").display()
    );
    std::fs::write(&spec, text).unwrap();
    succeed(command().args(["merge", "--spec"]).arg(&spec));
    let flags = dir.path().join("by-flags");
    succeed(merge(&base, &[adapter.to_str().unwrap()], &flags).args(["--dtype", "f32"]));
    crate::output::assert_same(&dir.path().join("by-file"), &flags);
    let wins = dir.path().join("wins");
    succeed(command().args(["merge", "--dtype", "keep", "--spec"]).arg(&spec).arg("--output").arg(&wins));
    assert_eq!(crate::output::tensor(&wins, "lm_head.weight").0, Dtype::BF16);
}

#[test]
fn a_delta_without_effect_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::SMALL;
    let base = model.write(&dir.path().join("base"));
    let mut b = tensor("base_model.model.lm_head.lora_B.weight", Dtype::F32, &[96, 4]);
    b.bytes.fill(0);
    let more = vec![b, tensor("base_model.model.lm_head.lora_A.weight", Dtype::F32, &[4, 64])];
    let a = lora_with(&dir.path().join("a"), &model, 4, "a", json!({}), more);
    let value: Value = serde_json::from_str(&succeed(
        merge(&base, &[a.to_str().unwrap()], &dir.path().join("out")).args(["--format", "json"]),
    ))
    .unwrap();
    let notes: Vec<&str> = value["notes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(
        notes.iter().filter(|n| n.contains("all zero")).collect::<Vec<_>>(),
        ["base_model.model.lm_head.lora_B.weight is all zero: its delta has no effect"].iter().collect::<Vec<_>>()
    );
}

#[test]
fn help_has_examples_and_exit_codes() {
    let help = succeed(command().arg("--help"));
    assert!(help.contains("Exit codes:"), "{help}");
    assert!(succeed(command().args(["merge", "--help"])).contains("Examples:"));
    assert_eq!(run(command().arg("--version")).status.code(), Some(0));
}

#[test]
fn log_lines_that_no_terminal_shows_have_no_colours() {
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = setup(dir.path());
    let ran = run(merge(&base, &[adapter.to_str().unwrap()], &dir.path().join("out")).env("SHARDFUSE_LOG", "debug"));
    let text = String::from_utf8(ran.stderr).unwrap();
    assert!(text.contains("DEBUG"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}
