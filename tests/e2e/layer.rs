//! One attention layer of a base that is seen or stored as codes, and a LoRA on it.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::json;

use crate::tool::command;
use shardfuse_testkit::checkpoint::{tensor, write, write_json};

/// The rows of its weights.
pub const ROWS: usize = 300;
/// Their columns: no multiple of a block, so blocks begin in one row and end in the next.
pub const COLS: usize = 200;

/// A LoRA on one of its projections.
pub fn adapter(dir: &Path, module: &str) -> PathBuf {
    let dir = dir.join(module);
    std::fs::create_dir_all(&dir).unwrap();
    write_json(&dir.join("adapter_config.json"), &json!({"peft_type": "LORA", "r": 2, "lora_alpha": 2}));
    let name = |part: &str| format!("base_model.model.model.layers.0.self_attn.{module}.lora_{part}.weight");
    let tensors = [tensor(&name("A"), Dtype::F32, &[2, COLS]), tensor(&name("B"), Dtype::F32, &[ROWS, 2])];
    write(&dir.join("adapter_model.safetensors"), &tensors);
    dir
}

/// A merge of it, that has not begun.
pub fn merge(base: &Path, adapter: &Path, output: &Path, more: &[&str]) -> std::process::Command {
    let mut command = command();
    command.arg("merge").arg("--base").arg(base).arg("--lora").arg(adapter).arg("--output").arg(output).args(more);
    command
}
