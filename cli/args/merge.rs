//! `merge` and `plan`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use shardfuse_worker::device::Choice;

use super::fleet::{StoresFile, Way};
use super::headings;
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
  shardfuse plan --base Llama-2-70b-hf --lora my-lora
  shardfuse plan --spec merge.yaml --format json
  shardfuse plan --spec merge.yaml --html plan.html";

/// `shardfuse merge`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Merge {
    #[command(flatten)]
    pub spec: Spec,
    /// Resume an unfinished merge of the same inputs (this is the default)
    #[arg(long, conflicts_with = "restart", help_heading = headings::EXISTING)]
    pub resume: bool,
    #[command(flatten)]
    pub replace: Replace,
    /// Begin at once, although another shardfuse may be merging into the output
    ///
    /// Without it the command is refused while the other one is alive, and waits up to 15 s to see whether it is where no lock tells.
    /// The other one then ends with output_busy.
    #[arg(long, help_heading = headings::EXISTING, conflicts_with = "coordinator")]
    pub take_over: bool,
    #[command(flatten)]
    pub machine: Machine,
    /// What fuses [default: auto]
    ///
    /// cpu, cuda (every usable GPU), cuda:N (one of them), or auto (the GPUs, else the CPU). The last place of the values depends
    /// on it. With --coordinator: cpu or cuda.
    #[arg(long, value_name = "auto|cpu|cuda[:N]", help_heading = headings::MACHINE)]
    pub device: Option<Choice>,
    #[command(flatten)]
    pub stores: StoresFile,
    /// Merge on a fleet: submit to this coordinator and follow the merge to its end
    #[arg(long, value_name = "URL", help_heading = headings::FLEET)]
    pub coordinator: Option<String>,
    /// With --coordinator: higher goes first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, help_heading = headings::FLEET)]
    pub priority: i32,
    #[command(flatten)]
    pub way: Way,
}

/// `shardfuse plan`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Plan {
    #[command(flatten)]
    pub spec: Spec,
    /// Also write the plan as a page of its own, which any browser shows: FILE is replaced
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub resources: Resources,
    #[command(flatten)]
    pub stores: StoresFile,
}
