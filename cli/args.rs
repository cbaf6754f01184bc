//! The command line, as typed. What it means stands in `settings`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Merges LoRA-family adapters into checkpoints of any size.
#[derive(Debug, Parser)]
#[command(version, about, long_about = "Merges LoRA-family adapters (PEFT folders) into Hugging Face checkpoints of any size.\n\nThe merge is exact to one rounding, needs no more memory than --memory whatever the model's size, gives the same bytes for any number of threads, and goes on where it stopped.", after_long_help = AFTER)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str = "Exit codes:
  0  done
  1  the merge failed while it ran (or verify found a difference)
  2  the command line or the merge spec is wrong
  3  an input was refused
  4  interrupted: the same command goes on where it stopped";

/// Flags of every command.
#[derive(Debug, Clone, ClapArgs)]
pub struct Global {
    /// How the result is printed on stdout
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// How an error is printed on stderr; json makes the last line {"error":{"kind":...,"message":...,"hint":...}}
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub error_format: Format,
    /// How log lines are printed on stderr (what is logged: SHARDFUSE_LOG, such as "info" or "shardfuse_worker=debug")
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub log_format: Format,
    /// No progress and no summary
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// A notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Merge adapters into a base and write the merged model
    #[command(after_long_help = MERGE_EXAMPLES)]
    Merge(Merge),
    /// Show what a merge would do; reads headers only and writes nothing
    #[command(after_long_help = PLAN_EXAMPLES)]
    Plan(Plan),
    /// Show the tensors and configuration of a checkpoint or adapter; reads headers only
    #[command(
        after_long_help = "Examples:\n  shardfuse inspect Llama-2-7b-hf\n  shardfuse inspect my-lora --format json"
    )]
    Inspect(Inspect),
    /// Check a merged model against its manifest, and against base and adapters
    #[command(after_long_help = "Examples:\n  shardfuse verify merged\n  shardfuse verify merged --sample 16")]
    Verify(Verify),
}

const MERGE_EXAMPLES: &str = "Examples:
  One adapter:
    shardfuse merge --base Llama-2-7b-hf --lora my-lora --output merged
  A project's LoRA that grows the vocabulary, then one's own on top, at half strength:
    shardfuse merge --base Llama-2-7b-hf --lora chinese-llama-2-lora --lora my-lora=0.5 --output merged
  A model larger than memory, in bf16, in files of at most 5 GB:
    shardfuse merge --base big --lora my-lora --output merged --memory 2GiB --dtype bf16 --max-shard-size 5GB
  From a file (flags win over it):
    shardfuse merge --spec merge.yaml";

const PLAN_EXAMPLES: &str = "Examples:
  shardfuse plan --base Llama-2-70b-hf --lora my-lora --output merged
  shardfuse plan --spec merge.yaml --format json";

/// What a merge is made of.
#[derive(Debug, Clone, Default, ClapArgs)]
pub struct Spec {
    /// The base checkpoint's folder
    #[arg(long, value_name = "PATH")]
    pub base: Option<String>,
    /// An adapter's folder, with an optional weight: PATH[=WEIGHT]. May be given several times, or hold several
    /// separated by commas; they apply in the order given
    #[arg(long, value_name = "PATH[=WEIGHT]")]
    pub lora: Vec<String>,
    /// The folder that is written
    #[arg(long, short, value_name = "PATH")]
    pub output: Option<String>,
    /// A YAML file with the same fields as these flags; flags win
    #[arg(long, value_name = "FILE")]
    pub spec: Option<PathBuf>,
    /// The output's dtype; keep leaves each tensor as it is in the base
    #[arg(long, value_name = "keep|bf16|f16|f32")]
    pub dtype: Option<String>,
    /// The most tensor bytes in one output file, such as 5GB; without it the base's own layout is kept
    #[arg(long, value_name = "SIZE")]
    pub max_shard_size: Option<String>,
    /// The unit of work and of resuming: a power of two of KiB [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub part_size: Option<String>,
    /// Memory budget [default: an eighth of the RAM, at least 512MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Threads that fuse [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// What fuses: cpu, cuda (every usable GPU), cuda:N (one of them), or auto (the GPUs, else the CPU) [default: auto].
    /// The bytes of a merge depend on it in the last place, and on nothing else but base and adapters
    #[arg(long, value_name = "auto|cpu|cuda[:N]")]
    pub device: Option<String>,
    /// What the norms of a second DoRA adapter are taken of: the weight that stands so far, or the original weight as
    /// PEFT does for two adapters of one model
    #[arg(long, value_name = "standing|original")]
    pub dora_norm: Option<String>,
    /// Let a weight other than 1 apply to the low-rank deltas of an adapter that also replaces tensors or is DoRA
    #[arg(long)]
    pub partial_weight: bool,
    /// How several adapters are put together: sequence applies them one after another, each with its weight
    #[arg(long, value_name = "sequence")]
    pub combine: Option<String>,
    /// The share of values that a pruning combination keeps
    #[arg(long, value_name = "0..1")]
    pub density: Option<f64>,
    /// Whose tokenizer files are written: auto (the last adapter that carries one), base, or a folder
    #[arg(long, value_name = "auto|base|PATH")]
    pub tokenizer: Option<String>,
    /// Whether input and output embedding are one tensor, for a model type that does not tell
    #[arg(long, value_name = "true|false")]
    pub tied: Option<bool>,
}

#[derive(Debug, Clone, ClapArgs)]
pub struct Merge {
    #[command(flatten)]
    pub spec: Spec,
    /// Go on with an unfinished merge of the same inputs (this is the default)
    #[arg(long, conflicts_with = "restart")]
    pub resume: bool,
    /// Discard what an earlier merge left in the output, finished or not, and begin anew
    #[arg(long)]
    pub restart: bool,
    /// Replace an output that holds something else
    #[arg(long)]
    pub force: bool,
    /// Write at most so many bytes a second, such as 200MiB, to leave a disk to others
    #[arg(long, value_name = "SIZE")]
    pub limit_rate: Option<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub struct Plan {
    #[command(flatten)]
    pub spec: Spec,
}

#[derive(Debug, Clone, ClapArgs)]
pub struct Inspect {
    /// A checkpoint's or adapter's folder, or one weight file
    pub path: String,
}

#[derive(Debug, Clone, ClapArgs)]
pub struct Verify {
    /// The merged model's folder
    pub output: String,
    /// Recompute so many rows of each changed tensor from base and adapters in f64, and print the largest error
    #[arg(long, value_name = "N")]
    pub sample: Option<u64>,
}
