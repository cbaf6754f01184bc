//! What becomes of an output that is not empty.

use clap::Args as ClapArgs;

use super::headings;

/// The flags of every command that begins a merge.
#[derive(Debug, Clone, Copy, Default, ClapArgs)]
#[command(next_help_heading = headings::EXISTING)]
pub struct Replace {
    /// Discard what an earlier merge left in the output, finished or not, and begin anew
    #[arg(long)]
    pub restart: bool,
    /// Replace an output that holds something else
    ///
    /// With submit: also check the inputs of a finished merge again, and repeat the merge if they changed.
    #[arg(long)]
    pub force: bool,
    /// Publish the merge also if an adapter changes nothing
    ///
    /// Without it such a merge ends with no_change before anything is published. What was made is kept, so the same command with this
    /// flag publishes it.
    #[arg(long)]
    pub allow_no_change: bool,
}
