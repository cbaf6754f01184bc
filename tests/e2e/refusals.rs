//! What is refused, in which words, and that nothing is left behind.

use std::path::Path;

use safetensors::Dtype;
use serde_json::json;

use crate::tool::{command, fail, merge, run, succeed};
use shardfuse_testkit::checkpoint::{Model, encode, lora, lora_with, tensor, values};

fn model(dir: &Path) -> (Model, std::path::PathBuf) {
    let model = Model::SMALL;
    let base = model.write(&dir.join("base"));
    (model, base)
}

#[test]
fn a_nan_met_while_fusing_leaves_neither_weights_nor_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (model, base) = model(dir.path());
    let mut nan = tensor("base_model.model.lm_head.lora_B.weight", Dtype::F32, &[96, 4]);
    let mut v = values("x", 96 * 4);
    v[200] = f32::NAN;
    nan.bytes = encode(Dtype::F32, &v);
    let more = vec![nan, tensor("base_model.model.lm_head.lora_A.weight", Dtype::F32, &[4, 64])];
    let a = lora_with(&dir.path().join("a"), &model, 4, "a", json!({}), more);
    let out = dir.path().join("out");
    let (code, kind, text) = fail(&mut merge(&base, &[a.to_str().unwrap()], &out));
    assert_eq!((code, kind.as_str()), (1, "non_finite"));
    assert!(text.contains("lm_head.lora_B") && text.contains("NaN"), "{text}");
    assert!(!out.exists(), "{out:?} is still there");
}

#[test]
fn an_overflow_of_the_output_dtype_names_tensor_adapter_and_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model { dtype: Dtype::F16, ..Model::SMALL };
    let base = model.write(&dir.path().join("base"));
    let a = lora_with(&dir.path().join("a"), &model, 4, "a", json!({"lora_alpha": 1e9}), Vec::new());
    let (code, kind, text) = fail(&mut merge(&base, &[a.to_str().unwrap()], &dir.path().join("out")));
    assert_eq!((code, kind.as_str()), (1, "non_finite"));
    assert!(text.contains("overflows F16") && text.contains("adapter 1") && text.contains("--dtype"), "{text}");
    assert!(!dir.path().join("out").exists());
}

#[test]
fn a_key_that_nothing_consumes_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (model, base) = model(dir.path());
    let stray = tensor("base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", Dtype::F32, &[4, 64]);
    let a = lora_with(&dir.path().join("a"), &model, 4, "a", json!({}), vec![stray]);
    let (code, kind, text) = fail(&mut merge(&base, &[a.to_str().unwrap()], &dir.path().join("out")));
    assert_eq!((code, kind.as_str()), (3, "unmatched_keys"));
    assert!(text.contains("layers.9.self_attn.q_proj.lora_A.weight"), "{text}");
}

#[test]
fn a_later_adapter_that_shrinks_the_vocabulary_is_refused_naming_both() {
    let dir = tempfile::tempdir().unwrap();
    let (model, base) = model(dir.path());
    let grown = |name: &str, rows: usize| {
        let more = ["model.embed_tokens", "lm_head"]
            .map(|m| tensor(&format!("base_model.model.{m}.modules_to_save.weight"), Dtype::F32, &[rows, 64]));
        lora_with(
            &dir.path().join(name),
            &model,
            4,
            name,
            json!({"modules_to_save": ["embed_tokens", "lm_head"]}),
            more.into(),
        )
    };
    let (a, b) = (grown("a", 120), grown("b", 119));
    let (code, kind, text) =
        fail(&mut merge(&base, &[a.to_str().unwrap(), b.to_str().unwrap()], &dir.path().join("out")));
    assert_eq!((code, kind.as_str()), (3, "shape_mismatch"));
    assert!(text.contains("[119, 64]") && text.contains("[120, 64]") && text.contains("adapter 1"), "{text}");
    // The other way round the vocabulary only grows, and the last one wins.
    let json = succeed(
        merge(&base, &[b.to_str().unwrap(), a.to_str().unwrap()], &dir.path().join("out")).args(["--format", "json"]),
    );
    let summary: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(summary["conflicts"].as_array().unwrap().len(), 2, "{summary}");
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("out/config.json")).unwrap()).unwrap();
    assert_eq!(config["vocab_size"], 120);
}

#[test]
fn a_weight_on_a_replacement_is_refused_unless_it_is_said_to_be_partial() {
    let dir = tempfile::tempdir().unwrap();
    let (model, base) = model(dir.path());
    let more = vec![tensor("base_model.model.lm_head.modules_to_save.weight", Dtype::F32, &[96, 64])];
    let a = lora_with(&dir.path().join("a"), &model, 4, "a", json!({"modules_to_save": ["lm_head"]}), more);
    let lora = format!("{}=0.5", a.display());
    let (code, kind, text) = fail(&mut merge(&base, &[&lora], &dir.path().join("out")));
    assert_eq!((code, kind.as_str()), (3, "conflict"));
    assert!(text.contains("lm_head.weight") && text.contains("--partial-weight"), "{text}");
    succeed(merge(&base, &[&lora], &dir.path().join("out")).arg("--partial-weight"));
}

#[test]
fn a_module_saved_under_two_names_must_be_the_same_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (model, base) = model(dir.path());
    let saved = |twin_seed: &str| {
        let mut twin = tensor("base_model.model.lm_head.weight", Dtype::F32, &[96, 64]);
        twin.bytes = encode(Dtype::F32, &values(twin_seed, 96 * 64));
        let old = tensor("base_model.model.lm_head.original_module.weight", Dtype::F32, &[96, 64]);
        let saved = "base_model.model.lm_head.modules_to_save.weight";
        let name = dir.path().join(twin_seed.replace('.', "_"));
        lora_with(
            &name,
            &model,
            4,
            "a",
            json!({"modules_to_save": ["lm_head"]}),
            vec![tensor(saved, Dtype::F32, &[96, 64]), twin, old],
        )
    };
    let same = saved("base_model.model.lm_head.modules_to_save.weight");
    let json = succeed(merge(&base, &[same.to_str().unwrap()], &dir.path().join("same")).args(["--format", "json"]));
    assert!(json.contains("\"output\""));
    let other = saved("other");
    let (code, kind, text) = fail(&mut merge(&base, &[other.to_str().unwrap()], &dir.path().join("other-out")));
    assert_eq!((code, kind.as_str()), (3, "conflict"));
    assert!(text.contains("modules_to_save.weight") && text.contains("must be equal"), "{text}");
    assert!(!dir.path().join("other-out").exists());
}

#[test]
fn a_missing_file_has_one_kind_in_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let (model, base) = model(dir.path());
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let out = dir.path().join("out");
    succeed(&mut merge(&base, &[a.to_str().unwrap()], &out));
    std::fs::remove_file(a.join("adapter_model.safetensors")).unwrap();
    let missing = a.join("adapter_model.safetensors");
    for command in [
        &mut merge(&base, &[a.to_str().unwrap()], &dir.path().join("again")),
        command().arg("verify").arg(&out).args(["--sample", "1", "--error-format", "json"]),
        command().arg("inspect").arg(&missing).args(["--error-format", "json"]),
    ] {
        let (code, kind, text) = fail(command);
        assert_eq!((code, kind.as_str()), (3, "missing_file"), "{text}");
    }
}

#[test]
fn usage_errors_exit_with_2_and_name_the_flag() {
    let dir = tempfile::tempdir().unwrap();
    let (model, base) = model(dir.path());
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let out = dir.path().join("out");
    for (lora, more) in [
        ("(a, b)", vec![]),
        ("a=heavy", vec![]),
        (a.to_str().unwrap(), vec!["--dtype", "int4"]),
        (a.to_str().unwrap(), vec!["--max-shard-size", "5 parsecs"]),
        (a.to_str().unwrap(), vec!["--no-such-flag"]),
        (a.to_str().unwrap(), vec!["--limit-rate", "0"]),
    ] {
        let (code, kind, text) = fail(merge(&base, &[lora], &out).args(&more));
        assert_eq!((code, kind.as_str()), (2, "usage"), "{lora} {more:?}: {text}");
    }
    let (code, kind, _) = fail(command().args([
        "merge",
        "--base",
        "x",
        "--lora",
        "y",
        "--part-size",
        "5000",
        "--output",
        "z",
        "--error-format",
        "json",
    ]));
    assert_eq!((code, kind.as_str()), (2, "usage"));
}

#[test]
fn combinations_that_come_later_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (model, base) = model(dir.path());
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    for mode in ["linear", "ties", "dare_ties", "peft-svd"] {
        let (code, kind, text) = fail(merge(&base, &[a.to_str().unwrap()], &dir.path().join("out")).args([
            "--combine",
            mode,
            "--density",
            "0.4",
        ]));
        assert_eq!((code, kind.as_str()), (3, "unsupported"), "{text}");
        assert!(text.contains(mode));
    }
}

#[test]
fn a_foreign_output_is_left_alone_unless_forced() {
    let dir = tempfile::tempdir().unwrap();
    let (model, base) = model(dir.path());
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("thesis.txt"), "years of work").unwrap();
    std::fs::write(out.join("model.safetensors"), "an older single file").unwrap();
    let (code, kind, text) = fail(&mut merge(&base, &[a.to_str().unwrap()], &out));
    assert_eq!((code, kind.as_str()), (3, "output_exists"));
    assert!(text.contains("--force"), "{text}");
    succeed(merge(&base, &[a.to_str().unwrap()], &out).arg("--force"));
    assert_eq!(std::fs::read_to_string(out.join("thesis.txt")).unwrap(), "years of work");
    assert!(!out.join("model.safetensors").exists(), "a loader would take the stale file before the index");
}

#[test]
fn text_errors_are_one_line_with_a_hint_apart() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        run(command().args(["merge", "--base"]).arg(dir.path().join("nothing")).args(["--lora", "x", "--output", "y"]));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr.starts_with("error: ") && stderr.contains("\nhint: "), "{stderr}");
}

#[test]
fn a_target_that_cannot_be_written_is_told_before_work_starts() {
    let dir = tempfile::tempdir().unwrap();
    let (model, base) = model(dir.path());
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let file = dir.path().join("a-file");
    std::fs::write(&file, "in the way").unwrap();
    let (code, kind, text) = fail(&mut merge(&base, &[a.to_str().unwrap()], &file.join("out")));
    assert!(code != 0 && !kind.is_empty() && text.contains("a-file"), "{code} {kind} {text}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "in the way");
}

/// As root: `mkdir /tmp/small && mount -t tmpfs -o size=300k tmpfs /tmp/small`, then
/// `SMALL_DISK=/tmp/small cargo test --test e2e -- --ignored full_disk`.
#[test]
#[ignore = "needs a mounted tmpfs of 300 kB, named by SMALL_DISK"]
fn a_full_disk_is_told_before_work_starts_with_the_bytes_needed() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model { hidden: 128, layers: 4, vocab: 512, ..Model::SMALL };
    let base = model.write(&dir.path().join("base"));
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let out = Path::new(&std::env::var("SMALL_DISK").expect("SMALL_DISK names a mounted tmpfs")).join("out");
    let (code, kind, text) = fail(&mut merge(&base, &[a.to_str().unwrap()], &out));
    assert_eq!((code, kind.as_str()), (5, "no_space"), "{text}");
    assert!(text.contains(" free, the merge writes "), "{text}");
    assert!(!out.exists());
}
