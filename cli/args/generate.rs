//! `completions` and `man`.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use clap_complete::Shell;

/// Shown below `completions --help`.
pub const COMPLETIONS_EXAMPLES: &str = "Examples:
  source <(shardfuse completions bash)
  shardfuse completions bash > ~/.local/share/bash-completion/completions/shardfuse
  shardfuse completions zsh > ~/.zfunc/_shardfuse
  shardfuse completions fish > ~/.config/fish/completions/shardfuse.fish";

/// Shown below `man --help`.
pub const MAN_EXAMPLES: &str = "Examples:
  shardfuse man merge | man -l -
  shardfuse man --dir ~/.local/share/man/man1";

/// `shardfuse completions`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Completions {
    /// The shell that reads the script
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `shardfuse man`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Man {
    /// The command whose page is printed [default: the page of shardfuse itself]
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    pub command: Option<String>,
    /// Write the pages of all commands into this folder, as shardfuse.1, shardfuse-merge.1 and so on
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
