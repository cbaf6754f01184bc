//! `--quantised requantise`: codes and scales of what an adapter changes, whoever makes them, and what is refused.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::layer::merge;
use crate::output::assert_same;
use crate::resume::{journaled, kill_when};
use crate::tool::{command, fail, succeed};
use shardfuse_fleetkit::Fleet;
use shardfuse_testkit::checkpoint::{Tensor, encode, read, tensor, values, write, write_json};

const ROWS: usize = 1500;
const COLS: usize = 96;

fn name(layer: usize, part: &str) -> String {
    format!("model.layers.{layer}.self_attn.q_proj.{part}")
}

/// Three layers in FP8: blocks of 128 x 64, a scale for each row, one scale. And a plain weight.
fn base(dir: &Path) -> PathBuf {
    let quantised = json!({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"block_structure": [128, 64]}}}});
    std::fs::create_dir_all(dir).unwrap();
    write_json(
        &dir.join("config.json"),
        &json!({"model_type": "llama", "torch_dtype": "bfloat16", "tie_word_embeddings": false, "quantization_config": quantised}),
    );
    let mut all = vec![tensor("model.embed_tokens.weight", Dtype::BF16, &[50, COLS])];
    for (layer, shape) in [vec![12, 2], vec![ROWS, 1], vec![]].into_iter().enumerate() {
        let code = |i: usize| (i * 37 % 127) as u8 | ((i / 3 % 2) as u8) << 7;
        let bytes = (0..ROWS * COLS).map(|i| code(i + layer)).collect();
        all.push(Tensor { name: name(layer, "weight"), dtype: Dtype::F8_E4M3, shape: vec![ROWS, COLS], bytes });
        let scales: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| 0.001 * (i % 9 + 1) as f32).collect();
        let bytes = encode(Dtype::F32, &scales);
        all.push(Tensor { name: name(layer, "weight_scale"), dtype: Dtype::F32, shape, bytes });
    }
    write(&dir.join("model.safetensors"), &all);
    dir.into()
}

/// A LoRA on all three, as large as `size`. Rows from 1280 on of the first layer are left as they are.
fn adapter(dir: &Path, size: f32) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    write_json(&dir.join("adapter_config.json"), &json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2}));
    let mut all = Vec::new();
    for layer in 0..3 {
        let key = |part: &str| format!("base_model.model.{}", name(layer, &format!("lora_{part}.weight")));
        all.push(tensor(&key("A"), Dtype::F32, &[2, COLS]));
        let b = values(&key("B"), ROWS * 2).into_iter().enumerate();
        let b: Vec<f32> = b.map(|(i, v)| if layer == 0 && i / 2 >= 1280 { 0.0 } else { v * size }).collect();
        all.push(Tensor { name: key("B"), dtype: Dtype::F32, shape: vec![ROWS, 2], bytes: encode(Dtype::F32, &b) });
    }
    write(&dir.join("adapter_model.safetensors"), &all);
    dir.into()
}

const REQUANTISE: [&str; 2] = ["--quantised", "requantise"];

#[test]
fn codes_and_scales_do_not_depend_on_how_they_are_made_and_untouched_blocks_keep_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (base, lora, out) =
        (base(&dir.path().join("base")), adapter(&dir.path().join("lora"), 30.0), dir.path().join("out"));
    let summary = succeed(&mut merge(&base, &lora, &out, &[&REQUANTISE[..], &["--format", "json"]].concat()));
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let survived = summary["survived"].as_array().unwrap();
    assert_eq!(survived.len(), 3, "{summary}");
    for figures in survived {
        let (cosine, norm) = (figures["cosine"].as_f64().unwrap(), figures["norm"].as_f64().unwrap());
        assert!((0.9..=1.0).contains(&cosine) && (0.8..1.2).contains(&norm), "{figures}");
    }
    for (threads, part, memory) in [("1", "4KiB", "64KiB"), ("3", "64KiB", "1MiB")] {
        let cut = dir.path().join(part);
        let more = ["--threads", threads, "--part-size", part, "--memory", memory];
        succeed(&mut merge(&base, &lora, &cut, &[&REQUANTISE[..], &more].concat()));
        assert_same(&out, &cut);
    }
    let of =
        |dir: &Path, name: &str| read(&dir.join("model.safetensors")).into_iter().find(|t| t.name == name).unwrap();
    for layer in 0..3 {
        for part in ["weight", "weight_scale"] {
            let (old, new) = (of(&base, &name(layer, part)), of(&out, &name(layer, part)));
            assert_eq!((old.dtype, &old.shape), (new.dtype, &new.shape));
            assert_ne!(old.bytes, new.bytes, "{}", name(layer, part));
        }
    }
    let codes = |dir: &Path| of(dir, &name(0, "weight")).bytes[1280 * COLS..].to_vec();
    let scales = |dir: &Path| of(dir, &name(0, "weight_scale")).bytes[10 * 2 * 4..].to_vec();
    assert_eq!((codes(&base), scales(&base)), (codes(&out), scales(&out)), "the last two rows of blocks");
    let config = |dir: &Path| std::fs::read(dir.join("config.json")).unwrap();
    assert_eq!(config(&base), config(&out));
    let report = succeed(command().arg("verify").arg(&out).args(["--sample", "30", "--format", "json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    let sampled = &report["sample"]["model.layers.*.self_attn.q_proj.weight"];
    assert_eq!((sampled["wrong"].as_u64(), sampled["rows"].as_u64()), (Some(0), Some(90)), "{report}");
    let plan = succeed(&mut {
        let mut plan = command();
        plan.arg("plan").arg("--base").arg(&base).arg("--lora").arg(&lora).arg("--output").arg(dir.path().join("x"));
        plan.args(REQUANTISE);
        plan
    });
    assert!(plan.contains("encodes: 3 weights") && plan.contains("below 0.9"), "{plan}");
}

#[test]
fn an_adapter_that_codes_would_lose_ends_the_merge_with_all_names_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (base, lora, out) =
        (base(&dir.path().join("base")), adapter(&dir.path().join("lora"), 1e-6), dir.path().join("out"));
    let run = |more: &[&str]| merge(&base, &lora, &out, &[&REQUANTISE[..], &["--error-format", "json"], more].concat());
    let (code, kind, text) = fail(&mut run(&[]));
    assert_eq!((code, kind.as_str()), (3, "delta_lost"), "{text}");
    for layer in 0..3 {
        assert!(text.contains(&name(layer, "weight")), "{text}");
    }
    assert!(text.contains("3 of 3 weights") && text.contains("--quantised keep"), "{text}");
    assert!(!out.exists(), "nothing is left");
    succeed(&mut run(&["--survival", "0"]));
    assert!(out.join("config.json").exists());
}

/// Killed once while it measures and once while it fills.
#[test]
fn a_merge_that_was_killed_goes_on_with_what_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let (base, lora) = (base(&dir.path().join("base")), adapter(&dir.path().join("lora"), 30.0));
    let (reference, out) = (dir.path().join("reference"), dir.path().join("out"));
    let small = ["--part-size", "4KiB", "--format", "json"];
    let all = [&REQUANTISE[..], &small].concat();
    succeed(&mut merge(&base, &lora, &reference, &all));
    // Statistics: of the first two layers one each, of the third the range and the survival.
    let measured = |n: u32| out.join(format!(".shardfuse/measured/{n}/all")).exists();
    for stop in [&(|| measured(0)) as &dyn Fn() -> bool, &|| measured(3) && journaled(&out).len() > 12] {
        let mut slow = merge(&base, &lora, &out, &[&all[..], &["--limit-rate", "200000"]].concat());
        kill_when(&mut slow, stop);
        assert!(!out.join("config.json").exists());
    }
    let summary: Value = serde_json::from_str(&succeed(&mut merge(&base, &lora, &out, &all))).unwrap();
    assert!(summary["parts_kept"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(summary["survived"].as_array().map(Vec::len), Some(3), "{summary}");
    assert_same(&reference, &out);
}

#[test]
fn three_workers_make_the_bytes_of_one_machine_and_hear_of_what_is_lost() {
    let mut fleet = Fleet::new(crate::BINARY);
    let base = base(&fleet.path("models/quantised"));
    let (lora, tiny) = (adapter(&fleet.path("models/q"), 30.0), adapter(&fleet.path("models/tiny"), 1e-6));
    let alone = fleet.path("alone");
    succeed(&mut merge(&base, &lora, &alone, &[&REQUANTISE[..], &["--part-size", "4KiB"]].concat()));
    let allow = ["models", "outputs"];
    fleet.coordinator(&allow);
    ["one", "two", "three"].iter().for_each(|worker| fleet.worker(worker, &allow));
    let submit = |lora: &Path, output: &str| {
        let url = |path: &Path| format!("file://{}", path.display());
        fleet.submit(&url(&base), &url(lora), &fleet.url(output), &["--quantised", "requantise", "--wait"])
    };
    let done = submit(&lora, "outputs/merged");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_same(&alone, &fleet.path("outputs/merged"));
    let (code, kind, text) = shardfuse_fleetkit::failed(&submit(&tiny, "outputs/lost"));
    assert_eq!((code, kind.as_str()), (3, "delta_lost"), "{text}");
    assert!((0..3).all(|layer| text.contains(&name(layer, "weight"))), "{text}");
    fleet.assert_well();
}
