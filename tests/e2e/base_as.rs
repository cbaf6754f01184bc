//! `--base-as`: every linear weight becomes what a quantised layer made of it, whoever computes it.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::layer::{COLS, ROWS, adapter, merge};
use crate::output::{assert_same, tensor as read};
use crate::resume::{journaled, kill_when};
use crate::tool::{command, fail, succeed};
use shardfuse_fleetkit::Fleet;
use shardfuse_testkit::checkpoint::{tensor, write, write_json};

const TOUCHED: &str = "model.layers.0.self_attn.q_proj.weight";
const UNTOUCHED: &str = "model.layers.0.self_attn.o_proj.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

fn base(dir: &Path) -> PathBuf {
    let dir = dir.join("base");
    std::fs::create_dir_all(&dir).unwrap();
    let config = json!({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": false});
    write_json(&dir.join("config.json"), &config);
    let of = |name: &str| tensor(name, Dtype::F32, &[ROWS, COLS]);
    write(&dir.join("model.safetensors"), &[of(TOUCHED), of(UNTOUCHED), of(EMBEDDING)]);
    dir
}

#[test]
fn the_base_is_seen_through_codes_however_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (base, lora, out, plain) =
        (base(dir.path()), adapter(dir.path(), "q_proj"), dir.path().join("out"), dir.path().join("plain"));
    let all = ["--base-as", "nf4"];
    succeed(&mut merge(&base, &lora, &out, &all));
    succeed(&mut merge(&base, &lora, &plain, &[]));
    for (threads, part, memory) in [("1", "8KiB", "256KiB"), ("3", "64KiB", "1MiB")] {
        let cut = dir.path().join(part);
        let more = ["--threads", threads, "--part-size", part, "--memory", memory];
        succeed(&mut merge(&base, &lora, &cut, &[&all[..], &more].concat()));
        assert_same(&out, &cut);
    }
    let (_, _, was) = read(&base, UNTOUCHED);
    let (_, _, seen) = read(&out, UNTOUCHED);
    // A block has 16 values at the most, each of them a code times the block's largest value.
    for (was, seen) in was.chunks(64).zip(seen.chunks(64)) {
        let largest = was.iter().fold(0f32, |a, v| a.max(v.abs()));
        let codes: std::collections::BTreeSet<u32> = seen.iter().map(|v| v.to_bits()).collect();
        assert!(codes.len() <= 16 && seen.iter().any(|v| v.abs() == largest), "{} values", codes.len());
        assert!(was.iter().zip(seen).all(|(was, seen)| (was - seen).abs() <= 0.16 * largest));
    }
    assert_eq!(read(&out, EMBEDDING), read(&base, EMBEDDING), "an embedding is no linear layer");
    // What the adapter adds is the same as without: the difference of both outputs is that of the bases.
    let ((_, _, with), (_, _, without), (_, _, was)) =
        (read(&out, TOUCHED), read(&plain, TOUCHED), read(&base, TOUCHED));
    let delta = |at: usize| f64::from(without[at]) - f64::from(was[at]);
    assert!((0..was.len()).any(|at| delta(at).abs() > 1e-3));
    for (block, (with, was)) in with.chunks(64).zip(was.chunks(64)).enumerate() {
        let largest = was.iter().fold(0f32, |a, v| a.max(v.abs()));
        for (i, (with, was)) in with.iter().zip(was).enumerate() {
            let start = f64::from(*with) - delta(block * 64 + i);
            assert!((start - f64::from(*was)).abs() <= 0.16 * f64::from(largest) + 1e-5, "{block}, {i}");
        }
    }
    let report = succeed(command().arg("verify").arg(&out).args(["--sample", "5", "--format", "json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["sample"]["model.layers.*.self_attn.q_proj.weight"]["wrong"], 0, "{report}");
}

#[test]
fn scales_that_are_quantised_themselves_are_the_same_however_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (base, lora, out, once) =
        (base(dir.path()), adapter(dir.path(), "q_proj"), dir.path().join("out"), dir.path().join("once"));
    let all = ["--base-as", "nf4,double"];
    succeed(&mut merge(&base, &lora, &out, &all));
    succeed(&mut merge(&base, &lora, &once, &["--base-as", "nf4"]));
    for (threads, part, memory) in [("1", "8KiB", "256KiB"), ("3", "64KiB", "1MiB")] {
        let cut = dir.path().join(part);
        let more = ["--threads", threads, "--part-size", part, "--memory", memory];
        succeed(&mut merge(&base, &lora, &cut, &[&all[..], &more].concat()));
        assert_same(&out, &cut);
    }
    let ((_, _, twice), (_, _, once)) = (read(&out, UNTOUCHED), read(&once, UNTOUCHED));
    assert!(twice != once && twice.iter().zip(&once).all(|(a, b)| (a - b).abs() <= 0.05 * b.abs().max(1e-3)));
    let report = succeed(command().arg("verify").arg(&out).args(["--sample", "5", "--format", "json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["sample"]["model.layers.*.self_attn.q_proj.weight"]["wrong"], 0, "{report}");
}

#[test]
fn a_diff_expects_what_the_codes_and_the_adapter_make_of_the_base() {
    let dir = tempfile::tempdir().unwrap();
    let (base, lora, out, plain) =
        (base(dir.path()), adapter(dir.path(), "q_proj"), dir.path().join("out"), dir.path().join("plain"));
    succeed(&mut merge(&base, &lora, &out, &["--base-as", "nf4,double"]));
    succeed(&mut merge(&base, &lora, &plain, &[]));
    let diff = |after: &Path, weight: &str, flags: &[&str]| {
        let mut diff = command();
        let expect = format!("{}={weight}", lora.to_str().unwrap());
        diff.arg("diff").arg(&base).arg(after).args(["--expect", &expect, "--error-format", "json"]).args(flags);
        diff
    };
    let codes = ["--base-as", "NF4,double"];
    succeed(&mut diff(&out, "1", &codes));
    for (after, weight, flags, says) in [
        (&out, "1", &[][..], "no change was expected in 1 of"),
        (&out, "1", &["--base-as", "fp4"], "of 2 tensors"),
        // The change of the codes does not hide that of the adapter.
        (&out, "2", &codes, "half of the change is there in 1 of 2 tensors"),
        (&plain, "1", &codes, "1 of 2 tensors"),
    ] {
        let (code, kind, text) = fail(&mut diff(after, weight, flags));
        assert_eq!((code, kind.as_str()), (1, "verify_failed"), "{text}");
        assert!(text.contains(says), "{says}: {text}");
    }
    let mut alone = command();
    alone.arg("diff").arg(&base).arg(&out).args(codes).args(["--error-format", "json"]);
    assert_eq!(fail(&mut alone).0, 2, "without --expect it means nothing");
}

/// Killed once while it adds scales up and once while it fills.
#[test]
fn a_merge_that_was_killed_goes_on_with_the_sums_of_scales() {
    let dir = tempfile::tempdir().unwrap();
    let (base, lora) = (base(dir.path()), adapter(dir.path(), "q_proj"));
    let (reference, out) = (dir.path().join("reference"), dir.path().join("out"));
    let all = ["--base-as", "nf4,double", "--part-size", "4KiB", "--format", "json"];
    succeed(&mut merge(&base, &lora, &reference, &all));
    let measured = |n: u32| out.join(format!(".shardfuse/measured/{n}/all")).exists();
    for stop in [&(|| measured(0)) as &dyn Fn() -> bool, &|| measured(1) && journaled(&out).len() > 12] {
        let mut slow = merge(&base, &lora, &out, &[&all[..], &["--limit-rate", "200000"]].concat());
        kill_when(&mut slow, stop);
        assert!(!out.join("config.json").exists());
    }
    let summary: Value = serde_json::from_str(&succeed(&mut merge(&base, &lora, &out, &all))).unwrap();
    assert!(summary["parts_kept"].as_u64().unwrap() > 0, "{summary}");
    assert_same(&reference, &out);
}

#[test]
fn three_workers_make_the_bytes_of_one_machine() {
    let mut fleet = Fleet::new(crate::BINARY);
    let (base, lora) = (base(&fleet.path("models")), adapter(&fleet.path("models"), "q_proj"));
    let (alone, all) = (fleet.path("alone"), ["--base-as", "nf4,double"]);
    succeed(&mut merge(&base, &lora, &alone, &[&all[..], &["--part-size", "4KiB"]].concat()));
    let allow = ["models", "outputs"];
    fleet.coordinator(&allow);
    ["one", "two", "three"].iter().for_each(|worker| fleet.worker(worker, &allow));
    let url = |path: &Path| format!("file://{}", path.display());
    let more = [&all[..], &["--wait"]].concat();
    let done = fleet.submit(&url(&base), &url(&lora), &fleet.url("outputs/merged"), &more);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_same(&alone, &fleet.path("outputs/merged"));
    fleet.assert_well();
}

#[test]
fn a_matrix_that_may_have_been_quantised_or_not_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (base, lora, out) = (base(dir.path()), adapter(dir.path(), "q_proj"), dir.path().join("out"));
    write_json(&base.join("config.json"), &json!({"model_type": "llama", "tie_word_embeddings": false}));
    let (code, kind, stderr) = fail(&mut merge(&base, &lora, &out, &["--base-as", "nf4", "--error-format", "json"]));
    assert_eq!((code, kind.as_str()), (3, "unsupported"));
    assert!(stderr.contains(TOUCHED) && stderr.contains("skip=MODULE"), "{stderr}");
    let told = ["--base-as", "nf4,with=self_attn,skip=embed_tokens"];
    succeed(&mut merge(&base, &lora, &out, &told));
}
