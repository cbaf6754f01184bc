//! The golden cases: merges that PEFT itself made, and inputs that must be refused. `golden/README.md` tells the format;
//! the cases are data, and none is known to the program.
//!
//! Right is within half a unit in the last place of the stored dtype plus a small noise term of fp32 sums (near zero,
//! units in the last place alone say nothing). What the merge does not change must be the same bytes.

#![allow(clippy::disallowed_methods, reason = "tests make and look at files as a user does")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/golden")
}

fn json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// All tensors of a folder's safetensors files.
fn read(folder: &Path) -> BTreeMap<String, Tensor> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "safetensors") {
            continue;
        }
        for (name, tensor) in read_file(&path) {
            assert!(all.insert(name.clone(), tensor).is_none(), "{name} is in two files of {}", folder.display());
        }
    }
    all
}

fn read_file(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let parsed = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let tensor = |view: safetensors::tensor::TensorView<'_>| Tensor {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    parsed.tensors().into_iter().map(|(name, view)| (name, tensor(view))).collect()
}

impl Tensor {
    fn values(&self) -> Vec<f64> {
        match self.dtype {
            Dtype::F32 => self.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
            Dtype::F16 => self.bytes.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).into()).collect(),
            Dtype::BF16 => self.bytes.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).into()).collect(),
            other => panic!("{other} is not compared by value"),
        }
    }
}

/// The spacing of a dtype's values at `x`.
fn ulp(dtype: Dtype, x: f64) -> f64 {
    let (digits, lowest) = match dtype {
        Dtype::F32 => (23, -126),
        Dtype::F16 => (10, -14),
        _ => (7, -126),
    };
    let exponent = if x == 0.0 { lowest } else { (x.abs().log2().floor() as i32).max(lowest) };
    2f64.powi(exponent - digits)
}

struct Case {
    name: String,
    folder: PathBuf,
    about: Value,
}

impl Case {
    fn all() -> Vec<Case> {
        let list = json(&golden().join("cases.json"));
        let name = |c: &Value| c["name"].as_str().unwrap().to_owned();
        list.as_array()
            .unwrap()
            .iter()
            .map(name)
            .map(|name| Case {
                folder: golden().join(&name),
                about: json(&golden().join(&name).join("case.json")),
                name,
            })
            .collect()
    }

    fn must_merge(&self) -> bool {
        self.about["expected"]["status"] == "ok"
    }

    fn run(&self, output: &Path) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardfuse"));
        command.arg("merge").args(strings(&self.about["args"])).arg("--output").arg(output);
        // Small parts, so that tensors are cut in the middle of rows.
        // PEFT merges an adapter that changes nothing, so that is allowed.
        command.arg("--allow-no-change");
        command.args(["--part-size", "2KiB", "--memory", "1MiB", "--error-format", "json", "--quiet"]);
        command.current_dir(&self.folder).stdin(Stdio::null()).output().unwrap()
    }

    /// What is wrong with what the program did.
    fn problems(&self, output: &Path) -> Vec<String> {
        let ran = self.run(output);
        let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
        let mut problems: Vec<String> = strings(&self.about["must_not_exist"])
            .iter()
            .filter(|f| self.folder.join(f).exists())
            .map(|f| format!("the payload RAN: {f}"))
            .collect();
        if ran.status.success() {
            match self.must_merge() {
                true => problems.extend(self.compare(output)),
                false => problems.push(format!("merged, wanted the refusal {}", self.about["expected"])),
            }
            return problems;
        }
        let error: Value = stderr.lines().last().and_then(|l| serde_json::from_str(l).ok()).unwrap_or_default();
        let kind = error["error"]["kind"].as_str().unwrap_or("nothing in JSON");
        let expected = &self.about["expected"];
        let kinds = [
            strings(&expected["or_kinds"]),
            strings(&expected["may_refuse_as"]),
            expected["kind"].as_str().into_iter().collect(),
        ]
        .concat();
        if !kinds.contains(&kind) {
            problems.push(format!("refused as {kind}, wanted {expected}: {stderr}"));
        }
        if output.exists() {
            problems.push("something was left behind".into());
        }
        problems
    }

    fn compare(&self, output: &Path) -> Vec<String> {
        let mut problems = Vec::new();
        let held = read(output);
        let unchanged = read(&self.folder.join(self.about["unchanged_as_in"].as_str().unwrap()));
        let changed = strings(&self.about["changed"]);
        let expected =
            if changed.is_empty() { BTreeMap::new() } else { read_file(&self.folder.join("expected.safetensors")) };
        let optional = strings(&self.about["optional"]);
        let (ulps, noise) =
            (self.about["tolerance"]["ulp"].as_f64().unwrap(), self.about["tolerance"]["noise_rel"].as_f64().unwrap());
        for name in &changed {
            let want = &expected[*name];
            let dtype = unchanged
                .get(*name)
                .map_or_else(|| serde_json::from_value(self.about["base_dtype"].clone()).unwrap(), |t| t.dtype);
            match held.get(*name) {
                None => problems.push(format!("{name} is missing")),
                Some(t) if t.dtype != dtype || t.shape != want.shape => {
                    problems.push(format!("{name} is {} {:?}, wanted {dtype} {:?}", t.dtype, t.shape, want.shape));
                }
                Some(t) => {
                    let want = want.values();
                    let slack = noise * want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                    let off = t
                        .values()
                        .iter()
                        .zip(&want)
                        .filter(|(a, b)| (*a - *b).abs() > ulps * ulp(dtype, **b) + slack || !a.is_finite())
                        .count();
                    if off > 0 {
                        problems.push(format!("{name}: {off} of {} values are off", want.len()));
                    }
                }
            }
        }
        for (name, want) in unchanged.iter().filter(|(n, _)| !changed.contains(&n.as_str())) {
            match held.get(name) {
                Some(t) if t.bytes == want.bytes && t.dtype == want.dtype && t.shape == want.shape => {}
                None if optional.contains(&name.as_str()) => {}
                _ => problems.push(format!("{name} must be the base's bytes, and is not")),
            }
        }
        let known = |n: &str| unchanged.contains_key(n) || changed.contains(&n) || optional.contains(&n);
        problems.extend(held.keys().filter(|n| !known(n)).map(|n| format!("{n} is not wanted")));
        let config = json(&output.join("config.json"));
        for (key, want) in self.about["expected_config"].as_object().into_iter().flatten() {
            let have = if key == "dtype" && config.get(key).is_none() { &config["torch_dtype"] } else { &config[key] };
            if have != want {
                problems.push(format!("config.json has {key} {have}, wanted {want}"));
            }
        }
        if let Some(from) = self.about["sidecars_from"].as_str() {
            for entry in std::fs::read_dir(self.folder.join(from)).unwrap().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !name.starts_with("adapter_")
                    && name != "README.md"
                    && std::fs::read(output.join(&name)).ok() != std::fs::read(entry.path()).ok()
                {
                    problems.push(format!("{name} is not the adapter's"));
                }
            }
        }
        problems
    }
}

fn check(cases: &[Case]) {
    let dir = tempfile::tempdir().unwrap();
    let mut failed = Vec::new();
    for case in cases {
        for problem in case.problems(&dir.path().join(&case.name)) {
            failed.push(format!("{}: {problem}", case.name));
        }
    }
    assert!(failed.is_empty(), "{} problems in {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
    println!("{} cases", cases.len());
}

#[test]
fn every_case_that_must_merge_equals_pefts_merge() {
    let cases: Vec<Case> = Case::all().into_iter().filter(Case::must_merge).collect();
    assert!(cases.len() >= 80, "only {} cases were found", cases.len());
    check(&cases);
}

#[test]
fn every_case_that_must_be_refused_is_refused_by_its_kind_and_leaves_nothing() {
    let cases: Vec<Case> = Case::all().into_iter().filter(|c| !c.must_merge()).collect();
    assert!(cases.len() >= 60, "only {} cases were found", cases.len());
    check(&cases);
}

#[test]
fn a_wrong_value_a_missing_tensor_and_a_changed_copy_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let case = Case::all().into_iter().find(|c| c.name == "lora-f32").unwrap();
    let output = dir.path().join("out");
    assert_eq!(case.problems(&output), Vec::<String>::new());
    let file = output.join("model.safetensors");
    let good = std::fs::read(&file).unwrap();
    let parsed = SafeTensors::deserialize(&good).unwrap();
    let at = |name: &str| parsed.tensor(name).unwrap().data().as_ptr() as usize - good.as_ptr() as usize;
    for name in ["model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight"] {
        let mut bad = good.clone();
        bad[at(name) + 3] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        assert_eq!(case.compare(&output).len(), 1, "{name}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(case.compare(&output).len() > 10);
}
