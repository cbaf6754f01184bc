//! Commands that ask a coordinator.

use clap::Args as ClapArgs;

use super::{Connect, Spec};

/// Shown below `submit --help`.
pub const SUBMIT_EXAMPLES: &str = "Examples:
  Hand a merge over, and look later:
    export SHARDFUSE_COORDINATOR=https://coordinator.example:7070
    shardfuse submit --base s3://models/llama-70b --lora s3://adapters/mine --output s3://merged/mine
    shardfuse watch ID
  In a job of a cluster: wait for the end, with its exit code:
    shardfuse submit --spec merge.yaml --wait --format json
  Before all others, on GPUs:
    shardfuse submit --spec merge.yaml --priority 10 --device cuda

The same submission again is the same merge: one that runs is shown as it stands, one that failed or was cancelled is
queued again and goes on where it stopped.

Exit codes: as merge; without --wait 0 means that the merge is taken on.";

/// Shown below `watch --help`.
pub const WATCH_EXAMPLES: &str = "Examples:
  shardfuse watch 7fb2c1d0 --coordinator https://coordinator.example:7070
  shardfuse watch 7fb2c1d0 --quiet --format json

A coordinator that is away for a while is waited for.

Exit codes: 0 done, 1 it failed or is held, 3 an input was refused, 4 it was cancelled or the watching was interrupted (the
merge goes on).";

/// Shown below `retry --help`.
pub const RETRY_EXAMPLES: &str = "Examples:
  shardfuse retry 7fb2c1d0 && shardfuse watch 7fb2c1d0

A merge is held if the coordinator was killed twice in a row while it read and planned this merge: most often it had too
little memory. A merge that failed or was cancelled is queued again too, as if it were submitted again, and goes on where it
stopped. One that waits, runs or is done is left as it is.

Exit codes: 0 it is queued, running or done, 1 the coordinator's queue is full, or it cannot be reached.";

/// Shown below `health --help`.
pub const HEALTH_EXAMPLES: &str = "Examples:
  shardfuse health --coordinator http://127.0.0.1:7070
  shardfuse health --coordinator https://localhost:7070 --service shardfuse.v1.Work

Exit codes: 0 it serves, 1 it does not or is not reached.";

/// `shardfuse submit`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Submit {
    #[command(flatten)]
    pub spec: Spec,
    #[command(flatten)]
    pub connect: Connect,
    /// Discard what an earlier merge left in the output, finished or not, and begin anew
    #[arg(long)]
    pub restart: bool,
    /// Replace an output that holds something else; a merge that was done here is looked at again, and made again if its inputs changed
    #[arg(long)]
    pub force: bool,
    /// Higher goes first; merges of one priority share the workers evenly
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i32,
    /// What the arithmetic runs on [default: the coordinator's own choice]
    #[arg(long, value_name = "cpu|cuda")]
    pub device: Option<String>,
    /// Have this share of the parts (0 to 1) computed again on another worker before publication [default: the coordinator's own]
    #[arg(long, value_name = "FRACTION", value_parser = super::share)]
    pub verify_parts: Option<f64>,
    /// Follow the merge to its end. Waits up to five minutes for a coordinator that does not answer, and as long as it takes for a place in its queue
    #[arg(long)]
    pub wait: bool,
}

/// `shardfuse list`.
#[derive(Debug, Clone, ClapArgs)]
pub struct List {
    #[command(flatten)]
    pub connect: Connect,
    /// The most merges that are shown, the newest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// `shardfuse get`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Get {
    /// The merge, as submit and list name it
    pub id: String,
    #[command(flatten)]
    pub connect: Connect,
}

/// `shardfuse watch`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Watch {
    /// The merge, as submit and list name it
    pub id: String,
    #[command(flatten)]
    pub connect: Connect,
}

/// `shardfuse cancel`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Cancel {
    /// The merge, as submit and list name it
    pub id: String,
    #[command(flatten)]
    pub connect: Connect,
    /// Also discard what is finished: uploads, journal, and the output's folder if the merge made it
    #[arg(long)]
    pub discard: bool,
}

/// `shardfuse retry`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Retry {
    /// The merge, as submit and list name it
    pub id: String,
    #[command(flatten)]
    pub connect: Connect,
}

/// `shardfuse health`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Health {
    #[command(flatten)]
    pub connect: Connect,
    /// One service, such as shardfuse.v1.Work; the whole process without it
    #[arg(long, value_name = "NAME", default_value = "")]
    pub service: String,
}
