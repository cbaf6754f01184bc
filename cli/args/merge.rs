//! `merge` and `plan`.

use clap::Args as ClapArgs;

use shardfuse_worker::device::Choice;

use super::fleet::{StoresFile, Way};
use super::machine::{Machine, Resources};
use super::replace::Replace;
use super::spec::Spec;

/// Shown below `merge --help`.
pub const EXAMPLES: &str = "Examples:
  One adapter:
    shardfuse merge --base Llama-2-7b-hf --lora my-lora --output merged
  A LoRA that grows the vocabulary, then another one on top, at half strength:
    shardfuse merge --base Llama-2-7b-hf --lora chinese-llama-2-lora --lora my-lora=0.5 --output merged
  A model larger than memory, in bf16, in files of at most 5 GB:
    shardfuse merge --base big --lora my-lora --output merged --memory 2GiB --dtype bf16 --max-shard-size 5GB
  From a file (flags win over it):
    shardfuse merge --spec merge.yaml
  On a fleet, from and to object storage:
    shardfuse merge --spec merge.yaml --coordinator https://coordinator.example:7070";

/// Shown below `plan --help`.
pub const PLAN_EXAMPLES: &str = "Examples:
  shardfuse plan --base Llama-2-70b-hf --lora my-lora --output merged
  shardfuse plan --spec merge.yaml --format json";

/// `shardfuse merge`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Merge {
    #[command(flatten)]
    pub spec: Spec,
    /// Resume an unfinished merge of the same inputs (this is the default)
    #[arg(long, conflicts_with = "restart")]
    pub resume: bool,
    #[command(flatten)]
    pub replace: Replace,
    #[command(flatten)]
    pub machine: Machine,
    /// What fuses: cpu, cuda (every usable GPU), cuda:N (one of them), or auto (the GPUs, else the CPU). The last place of
    /// the values depends on it. With --coordinator: cpu or cuda [default: auto]
    #[arg(long, value_name = "auto|cpu|cuda[:N]")]
    pub device: Option<Choice>,
    #[command(flatten)]
    pub stores: StoresFile,
    /// Merge on a fleet: submit to this coordinator and follow the merge to its end. URLs as for submit
    #[arg(long, value_name = "URL", help_heading = "Fleet")]
    pub coordinator: Option<String>,
    /// With --coordinator: higher goes first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, help_heading = "Fleet")]
    pub priority: i32,
    #[command(flatten)]
    pub way: Way,
}

/// `shardfuse plan`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Plan {
    #[command(flatten)]
    pub spec: Spec,
    #[command(flatten)]
    pub resources: Resources,
    #[command(flatten)]
    pub stores: StoresFile,
}
