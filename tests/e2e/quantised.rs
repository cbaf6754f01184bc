//! Quantised bases: codes travel, and FP8 is dequantised, whoever computes it.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::output::{assert_same, tensor as read};
use crate::tool::{command, fail, succeed};
use shardfuse_testkit::checkpoint::{Tensor, encode, tensor, values, write, write_json};

const ROWS: usize = 300;
const COLS: usize = 200;
const CODES: &str = "model.layers.0.self_attn.q_proj.weight";
const PLAIN: &str = "model.layers.0.self_attn.o_proj.weight";

/// A file that repeats the configuration, as ModelOpt writes it.
const REPEATED: &str = "hf_quant_config.json";

/// A code that is a finite number for each element, of either sign.
fn codes() -> Vec<u8> {
    (0..ROWS * COLS).map(|i| (i * 37 % 127) as u8 | ((i / 3 % 2) as u8) << 7).collect()
}

/// A scale for each block of 128 x 128.
fn scales() -> Vec<f32> {
    (0..3 * 2).map(|i| 0.01 * (i + 1) as f32).collect()
}

/// OFP8 E4M3, written down once more: sign, 4 bits of exponent, 3 of fraction.
fn e4m3(code: u8) -> f32 {
    let (exponent, fraction) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let size = if exponent == 0 { fraction / 512.0 } else { (1.0 + fraction / 8.0) * 2f32.powi(exponent - 7) };
    if code & 0x80 == 0 { size } else { -size }
}

fn base(dir: &Path) -> PathBuf {
    let dir = dir.join("base");
    std::fs::create_dir_all(&dir).unwrap();
    let quantised = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    write_json(
        &dir.join("config.json"),
        &json!({"model_type": "llama", "torch_dtype": "bfloat16", "tie_word_embeddings": false, "quantization_config": quantised}),
    );
    let tensors: [Tensor; 3] = [
        Tensor { name: CODES.into(), dtype: Dtype::F8_E4M3, shape: vec![ROWS, COLS], bytes: codes() },
        Tensor {
            name: format!("{CODES}_scale_inv"),
            dtype: Dtype::F32,
            shape: vec![3, 2],
            bytes: encode(Dtype::F32, &scales()),
        },
        tensor(PLAIN, Dtype::BF16, &[ROWS, COLS]),
    ];
    write(&dir.join("model.safetensors"), &tensors);
    write_json(&dir.join(REPEATED), &json!({"quantization": {"quant_algo": "FP8"}}));
    dir
}

fn adapter(dir: &Path, module: &str) -> PathBuf {
    let dir = dir.join(module);
    std::fs::create_dir_all(&dir).unwrap();
    write_json(&dir.join("adapter_config.json"), &json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2}));
    let name = |part: &str| format!("base_model.model.model.layers.0.self_attn.{module}.lora_{part}.weight");
    let tensors = [tensor(&name("A"), Dtype::F32, &[2, COLS]), tensor(&name("B"), Dtype::F32, &[ROWS, 2])];
    write(&dir.join("adapter_model.safetensors"), &tensors);
    dir
}

fn merge(base: &Path, adapter: &Path, output: &Path, more: &[&str]) -> std::process::Command {
    let mut command = command();
    command.arg("merge").arg("--base").arg(base).arg("--lora").arg(adapter).arg("--output").arg(output).args(more);
    command
}

#[test]
fn codes_and_scales_that_nothing_touches_are_the_bytes_of_the_base() {
    let dir = tempfile::tempdir().unwrap();
    let (base, out) = (base(dir.path()), dir.path().join("out"));
    succeed(&mut merge(&base, &adapter(dir.path(), "o_proj"), &out, &[]));
    let held = shardfuse_testkit::checkpoint::read(&out.join("model.safetensors"));
    let of = |name: &str| held.iter().find(|t| t.name == name).unwrap().bytes.clone();
    assert_eq!(of(CODES), codes());
    assert_eq!(of(&format!("{CODES}_scale_inv")), encode(Dtype::F32, &scales()));
    assert_ne!(of(PLAIN), tensor(PLAIN, Dtype::BF16, &[ROWS, COLS]).bytes, "the adapter is merged");
    let config: Value = serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["quantization_config"]["quant_method"], "fp8");
    assert!(out.join(REPEATED).exists());
    succeed(command().arg("verify").arg(&out));
}

#[test]
fn codes_that_an_adapter_changes_are_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let (base, lora, out) = (base(dir.path()), adapter(dir.path(), "q_proj"), dir.path().join("out"));
    let (code, kind, stderr) = fail(&mut merge(&base, &lora, &out, &["--error-format", "json"]));
    assert_eq!((code, kind.as_str()), (3, "unsupported"));
    assert!(stderr.contains(CODES) && stderr.contains("fp8") && stderr.contains("--quantised dequantise"), "{stderr}");
}

#[test]
fn a_dequantised_weight_is_code_times_scale_plus_the_delta_however_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (base, lora, out) = (base(dir.path()), adapter(dir.path(), "q_proj"), dir.path().join("out"));
    let all = ["--quantised", "dequantise", "--dtype", "f32"];
    succeed(&mut merge(&base, &lora, &out, &all));
    for (threads, part, memory) in [("1", "8KiB", "64KiB"), ("3", "64KiB", "1MiB")] {
        let cut = dir.path().join(part);
        let more = ["--threads", threads, "--part-size", part, "--memory", memory];
        succeed(&mut merge(&base, &lora, &cut, &[&all[..], &more].concat()));
        assert_same(&out, &cut);
    }
    let (dtype, shape, got) = read(&out, CODES);
    assert_eq!((dtype, shape), (Dtype::F32, vec![ROWS, COLS]));
    let name = |part: &str| format!("base_model.model.model.layers.0.self_attn.q_proj.lora_{part}.weight");
    let (a, b) = (values(&name("A"), 2 * COLS), values(&name("B"), ROWS * 2));
    for (i, got) in got.iter().enumerate() {
        let (row, col) = (i / COLS, i % COLS);
        let start = f64::from(e4m3(codes()[i])) * f64::from(scales()[row / 128 * 2 + col / 128]);
        let delta: f64 = (0..2).map(|k| f64::from(b[row * 2 + k]) * f64::from(a[k * COLS + col])).sum();
        assert!((f64::from(*got) - start - delta).abs() < 1e-5, "[{row}, {col}]: {got}, not {}", start + delta);
    }
    let config: Value = serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
    assert!(config.get("quantization_config").is_none() && config["torch_dtype"] == "float32", "{config}");
    assert!(!out.join(REPEATED).exists(), "it would say that the output is quantised");
    let report = succeed(command().arg("verify").arg(&out).args(["--sample", "5", "--format", "json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["sample"]["model.layers.*.self_attn.q_proj.weight"]["wrong"], 0, "{report}");
}
