//! What becomes of an output that is not empty.

use clap::Args as ClapArgs;

/// The flags of every command that begins a merge.
#[derive(Debug, Clone, Copy, Default, ClapArgs)]
pub struct Replace {
    /// Discard what an earlier merge left in the output, finished or not, and begin anew
    #[arg(long)]
    pub restart: bool,
    /// Replace an output that holds something else; submit: also check the inputs of a finished merge again, and repeat the
    /// merge if they changed
    #[arg(long)]
    pub force: bool,
}
