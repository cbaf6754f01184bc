//! `shardfuse clean`.

use clap::Args as ClapArgs;

use super::fleet::StoresFile;

/// Examples of the command.
pub const EXAMPLES: &str = "Examples:\n  shardfuse clean merged --dry-run\n  shardfuse clean s3://bucket/merged --yes";

/// `shardfuse clean`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Clean {
    /// The output of the unfinished merge
    pub output: String,
    /// Only show what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Remove it even if a coordinator seems to work on it; that coordinator stops with output_busy
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub stores: StoresFile,
}
