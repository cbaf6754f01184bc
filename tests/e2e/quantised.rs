//! Quantised bases: codes travel, and FP8 is dequantised, whoever computes it.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::layer::{COLS, ROWS, adapter, merge};
use crate::output::{assert_same, tensor as read};
use crate::tool::{command, succeed};
use shardfuse_testkit::checkpoint::{Tensor, encode, tensor, values, write, write_json};

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
fn a_changed_weight_leaves_a_model_that_stays_quantised() {
    let dir = tempfile::tempdir().unwrap();
    let (base, lora, out) = (base(dir.path()), adapter(dir.path(), "q_proj"), dir.path().join("out"));
    let other = CODES.replace("q_proj", "o_proj");
    let mut tensors = shardfuse_testkit::checkpoint::read(&base.join("model.safetensors"));
    tensors.retain(|tensor| tensor.name != PLAIN);
    let copies: Vec<Tensor> = tensors
        .iter()
        .map(|t| Tensor {
            name: t.name.replace("q_proj", "o_proj"),
            dtype: t.dtype,
            shape: t.shape.clone(),
            bytes: t.bytes.clone(),
        })
        .collect();
    tensors.extend(copies);
    write(&base.join("model.safetensors"), &tensors);
    succeed(&mut merge(&base, &lora, &out, &[]));
    let held = shardfuse_testkit::checkpoint::read(&out.join("model.safetensors"));
    let names: Vec<&str> = held.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let of = |name: &str| held.iter().find(|t| t.name == name).unwrap();
    assert_eq!((of(CODES).dtype, &of(CODES).shape), (Dtype::BF16, &vec![ROWS, COLS]));
    assert_eq!((of(&other).dtype, &of(&other).bytes), (Dtype::F8_E4M3, &codes()));
    assert_eq!(of(&format!("{other}_scale_inv")).bytes, encode(Dtype::F32, &scales()));
    let json = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(out.join(name)).unwrap()).unwrap() };
    let listed = json!(["lm_head", "model.layers.0.self_attn.q_proj"]);
    assert_eq!(json("config.json")["quantization_config"]["modules_to_not_convert"], listed);
    assert_eq!(json(REPEATED)["quantization"]["exclude_modules"], json!(["model.layers.0.self_attn.q_proj"]));
    // The same weight as in a model that is dequantised whole.
    let all = dir.path().join("all");
    succeed(&mut merge(&base, &lora, &all, &["--quantised", "dequantise"]));
    assert_eq!(read(&out, CODES), read(&all, CODES));
    succeed(command().arg("verify").arg(&out).args(["--sample", "5"]));
    let plan = succeed(
        command()
            .arg("plan")
            .arg("--base")
            .arg(&base)
            .arg("--lora")
            .arg(&lora)
            .arg("--output")
            .arg(dir.path().join("x")),
    );
    assert!(plan.contains("leaves: ") && plan.contains(CODES), "{plan}");
}

/// The rows of one part of a fused weight begin and end within blocks.
#[test]
fn rows_that_share_blocks_with_others_are_changed_and_the_whole_weight_is_written_as_values() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    std::fs::create_dir_all(&base).unwrap();
    let quantised = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    let config = json!({
        "model_type": "nomic_bert", "architectures": ["NomicBertModel"], "torch_dtype": "float32", "quantization_config": quantised,
    });
    write_json(&base.join("config.json"), &config);
    let fused = "encoder.layers.0.attn.Wqkv.weight";
    let scale = Tensor {
        name: format!("{fused}_scale_inv"),
        dtype: Dtype::F32,
        shape: vec![3, 2],
        bytes: encode(Dtype::F32, &scales()),
    };
    write(
        &base.join("model.safetensors"),
        &[Tensor { name: fused.into(), dtype: Dtype::F8_E4M3, shape: vec![ROWS, COLS], bytes: codes() }, scale],
    );
    let lora = dir.path().join("lora");
    std::fs::create_dir_all(&lora).unwrap();
    write_json(&lora.join("adapter_config.json"), &json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2}));
    let name = |part: &str| format!("base_model.model.layers.0.self_attn.k_proj.lora_{part}.weight");
    let third = ROWS / 3;
    write(
        &lora.join("adapter_model.safetensors"),
        &[tensor(&name("A"), Dtype::F32, &[2, COLS]), tensor(&name("B"), Dtype::F32, &[third, 2])],
    );
    let out = dir.path().join("out");
    succeed(&mut merge(&base, &lora, &out, &[]));
    let (dtype, shape, got) = read(&out, fused);
    assert_eq!((dtype, shape), (Dtype::F32, vec![ROWS, COLS]));
    let (a, b) = (values(&name("A"), 2 * COLS), values(&name("B"), third * 2));
    for (i, got) in got.iter().enumerate() {
        let (row, col) = (i / COLS, i % COLS);
        let start = f64::from(e4m3(codes()[i])) * f64::from(scales()[row / 128 * 2 + col / 128]);
        let delta = |row: usize| (0..2).map(|k| f64::from(b[row * 2 + k]) * f64::from(a[k * COLS + col])).sum::<f64>();
        let wanted = start + if (third..2 * third).contains(&row) { delta(row - third) } else { 0.0 };
        assert!((f64::from(*got) - wanted).abs() < 1e-5, "[{row}, {col}]: {got}, not {wanted}");
    }
    let cut = dir.path().join("cut");
    succeed(&mut merge(&base, &lora, &cut, &["--threads", "3", "--part-size", "8KiB", "--memory", "64KiB"]));
    assert_same(&out, &cut);
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
