//! `diff`.

use clap::Args as ClapArgs;
use shardfuse_merge::spec::BaseAs;

use super::fleet::StoresFile;
use super::machine::Resources;

/// Shown below `diff --help`.
pub const EXAMPLES: &str = "Examples:
  What a merge did to the base:
    shardfuse diff Llama-2-7b-hf merged
  Whether it is what the adapter says:
    shardfuse diff Llama-2-7b-hf merged --expect my-lora
  The same of a merge that was made with --base-as:
    shardfuse diff Llama-2-7b-hf merged --expect my-qlora --base-as nf4,from=bf16
  As a picture and as a page:
    shardfuse diff Llama-2-7b-hf merged --svg change.svg --html change.html";

/// `shardfuse diff`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Diff {
    /// The checkpoint before, such as the base
    pub before: String,
    /// The checkpoint after, such as the output
    pub after: String,
    /// Check that the change is what this adapter says, with an optional weight
    ///
    /// May be given several times, or hold several separated by commas, as --lora of merge. The exit code is 1 if the change is another one.
    #[arg(long, value_name = "PATH[=WEIGHT]")]
    pub expect: Vec<String>,
    /// With --expect: the base as the adapters saw it, as --base-as of merge
    #[arg(long, value_name = "TYPE[,PART]...", requires = "expect")]
    pub base_as: Option<BaseAs>,
    /// Show every tensor, not one line for each kind
    #[arg(long)]
    pub all: bool,
    /// Write a heat map over layers and kinds of tensors
    #[arg(long, value_name = "FILE")]
    pub svg: Option<String>,
    /// Write the heat map and the tables as a page that stands by itself
    #[arg(long, value_name = "FILE")]
    pub html: Option<String>,
    #[command(flatten)]
    pub resources: Resources,
    #[command(flatten)]
    pub stores: StoresFile,
}
