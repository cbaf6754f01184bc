//! The flags that make up a merge spec.

use std::path::PathBuf;

use clap::Args as ClapArgs;

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
    /// Whether input and output embedding are one tensor, for a model type that does not tell; false keeps both of a base
    /// that holds both
    #[arg(long, value_name = "true|false")]
    pub tied: Option<bool>,
    /// A weight file in an adapter's folder whose tensors replace those of the base, before any delta is added. May be
    /// given several times
    #[arg(long, value_name = "NAME")]
    pub extra_weights: Vec<String>,
    /// A file in the folder of the base or of an adapter to leave out; with / at the end, a folder. May be given several
    /// times
    #[arg(long, value_name = "NAME")]
    pub ignore_file: Vec<String>,
}
