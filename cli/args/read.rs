//! Commands that only read.

use clap::Args as ClapArgs;

use super::fleet::StoresFile;

/// `shardfuse inspect`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Inspect {
    /// A checkpoint's or adapter's folder, or one weight file
    pub path: String,
    #[command(flatten)]
    pub stores: StoresFile,
}

/// `shardfuse index`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Index {
    /// The base checkpoint's folder
    pub base: String,
    /// Where the index is written, for a base that cannot be written to [default: shardfuse.index.json in its folder]
    #[arg(long, value_name = "FILE")]
    pub to: Option<String>,
    #[command(flatten)]
    pub stores: StoresFile,
}

/// `shardfuse verify`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Verify {
    /// The merged model's folder
    pub output: String,
    /// Recompute N rows of each tensor from base and adapters in f64, and print the largest error
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
    /// Read also what the store copied and nobody read, and compare it with the input that it came from
    #[arg(long)]
    pub full: bool,
    #[command(flatten)]
    pub stores: StoresFile,
}
