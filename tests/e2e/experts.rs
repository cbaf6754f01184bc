//! Experts, stacked and one by one, and weights in pieces: the same bytes whoever computes them, and a sample in f64.

use std::path::{Path, PathBuf};

use serde_json::Value;
use shardfuse_fleetkit::{Fleet, failed};

use crate::output::assert_same;
use crate::tool::{command, merge, succeed};

/// Golden bases with an adapter of each: stored one by one, stacked, stacked with the inputs first, and as parts of one tensor.
const CASES: [(&str, &str); 4] = [
    ("moe-deepseek-bf16", "experts-deepseek"),
    ("moe-mixtral-stacked-f32", "experts-stacked"),
    ("moe-gpt-oss-f32", "experts-gpt-oss-biases"),
    ("nomic-f32", "pieces-dora"),
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/golden").join(name)
}

fn inputs((base, case): (&str, &str)) -> (PathBuf, PathBuf) {
    (golden("bases").join(base), golden(case).join("adapter"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn experts_do_not_depend_on_threads_part_size_or_memory_and_equal_f64() {
    for case in CASES {
        let dir = tempfile::tempdir().unwrap();
        let (base, adapter) = inputs(case);
        let reference = dir.path().join("reference");
        succeed(&mut merge(&base, &[adapter.to_str().unwrap()], &reference));
        for (threads, part, memory) in [("1", "1KiB", "64KiB"), ("3", "64KiB", "1MiB")] {
            let out = dir.path().join(part);
            let mut merge = command();
            merge.arg("merge").arg("--base").arg(&base).arg("--lora").arg(&adapter).arg("--output").arg(&out);
            succeed(merge.args(["--threads", threads, "--part-size", part, "--memory", memory]));
            assert_same(&reference, &out);
        }
        let report = succeed(command().arg("verify").arg(&reference).args(["--sample", "5", "--format", "json"]));
        let report: Value = serde_json::from_str(&report).unwrap();
        let portions = |name: &str| name.contains("experts") || name.contains("Wqkv");
        let sampled: Vec<_> = report["sample"].as_object().unwrap().iter().filter(|(name, _)| portions(name)).collect();
        assert!(!sampled.is_empty(), "{report}");
        for (name, found) in sampled {
            assert_eq!(found["wrong"], 0, "{name}: {found}");
        }
        succeed(command().arg("diff").arg(&base).arg(&reference).arg("--expect").arg(&adapter));
    }
}

#[test]
fn one_worker_and_three_write_the_same_experts_as_one_machine() {
    for workers in [1, 3] {
        let mut fleet = Fleet::new(crate::BINARY);
        for case in CASES {
            let (base, adapter) = inputs(case);
            copy(&base, &fleet.path(&format!("models/{}", case.0)));
            copy(&adapter, &fleet.path(&format!("models/{}", case.1)));
        }
        std::fs::create_dir_all(fleet.path("outputs")).unwrap();
        fleet.coordinator(&["models", "outputs"]);
        for worker in 0..workers {
            fleet.worker(&format!("worker-{worker}"), &["models", "outputs"]);
        }
        for (base, adapter) in CASES {
            let (base, lora) = (format!("models/{base}"), format!("models/{adapter}"));
            let output = format!("outputs/{adapter}");
            let more = ["--wait", "--quiet"];
            let answer = fleet.submit(&fleet.url(&base), &fleet.url(&lora), &fleet.url(&output), &more);
            assert!(answer.status.success(), "{:?}", failed(&answer));
            let alone = fleet.path(&format!("alone-{adapter}"));
            succeed(&mut merge(&fleet.path(&base), &[fleet.path(&lora).to_str().unwrap()], &alone));
            assert_same(&alone, &fleet.path(&output));
        }
        fleet.assert_well();
    }
}

#[test]
fn a_sample_takes_the_magnitudes_of_the_piece_that_it_looks_at() {
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = inputs(("nomic-modules-f32", "pieces-joined-dora"));
    let output = dir.path().join("out");
    succeed(&mut merge(&base, &[adapter.to_str().unwrap()], &output));
    let report = succeed(command().arg("verify").arg(&output).args(["--sample", "100", "--format", "json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    let sample = report["sample"].as_object().unwrap();
    assert!(sample.keys().any(|name| name.contains("k_proj")), "{report}");
    assert!(sample.values().all(|found| found["wrong"] == 0), "{report}");
}
