//! Commands that ask a coordinator.

use clap::Args as ClapArgs;

use super::coordinator::MergeDevice;
use super::fleet::Connect;
use super::headings;
use super::replace::Replace;
use super::spec::Spec;

/// Shown below `submit --help`.
pub const SUBMIT_EXAMPLES: &str = "Examples:
  Submit a merge, and look later:
    export SHARDFUSE_COORDINATOR=https://coordinator.example:7070
    shardfuse submit --base s3://models/llama-70b --lora s3://adapters/mine --output s3://merged/mine
    shardfuse watch ID
  In a job of a cluster: wait for the end, with its exit code:
    shardfuse submit --spec merge.yaml --wait --format json
  Before all others, on GPUs:
    shardfuse submit --spec merge.yaml --priority 10 --device cuda

The same submission again is the same merge: a running one is shown as it is, a failed or cancelled one is queued again and resumes where it stopped.

Exit codes: as merge; without --wait 0 means that the coordinator accepted the merge.";

/// Shown below `watch --help`.
pub const WATCH_EXAMPLES: &str = "Examples:
  shardfuse watch 7fb2c1d0 --coordinator https://coordinator.example:7070
  shardfuse watch 7fb2c1d0 --quiet --format json

If the coordinator goes away, the command waits until it is back.

Exit codes: 0 done, 1 it failed or is held, 3 an input was refused, 4 it was cancelled, or this command was interrupted (the merge continues).";

/// Shown below `retry --help`.
pub const RETRY_EXAMPLES: &str = "Examples:
  shardfuse retry 7fb2c1d0 && shardfuse watch 7fb2c1d0

A coordinator holds a merge if it was killed twice in a row while it read and planned that merge, usually for lack of memory. retry queues held, failed and cancelled merges again; they resume where they stopped. It leaves other merges as they are.

Exit codes: 0 the merge is queued, running or done, 1 the coordinator's queue is full, or it cannot be reached.";

/// Shown below `health --help`.
pub const HEALTH_EXAMPLES: &str = "Examples:
  shardfuse health --coordinator http://127.0.0.1:7070
  shardfuse health --coordinator https://localhost:7070 --service shardfuse.v1.Work

Exit codes: 0 it serves, 1 it does not serve or cannot be reached.";

/// `shardfuse submit`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Submit {
    #[command(flatten)]
    pub spec: Spec,
    #[command(flatten)]
    pub connect: Connect,
    #[command(flatten)]
    pub replace: Replace,
    /// Higher goes first; merges of one priority share the workers evenly
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, help_heading = headings::FLEET)]
    pub priority: i32,
    /// What the arithmetic runs on [default: the coordinator's own choice]
    ///
    /// With cuda, the first worker to join decides which class of GPU.
    #[arg(long, value_enum, ignore_case = true, help_heading = headings::FLEET)]
    pub device: Option<MergeDevice>,
    /// The share of the parts (0 to 1) that other workers compute again before publication [default: the coordinator's own]
    #[arg(long, value_name = "FRACTION", value_parser = super::share, help_heading = headings::FLEET)]
    pub verify_parts: Option<f64>,
    /// Follow the merge to its end
    ///
    /// Waits up to five minutes for a coordinator that does not answer, and without limit for a place in its queue.
    #[arg(long, help_heading = headings::FLEET)]
    pub wait: bool,
}

/// `shardfuse list`.
#[derive(Debug, Clone, ClapArgs)]
pub struct List {
    #[command(flatten)]
    pub connect: Connect,
    /// How many merges are shown at the most, the newest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

/// `shardfuse get`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Get {
    /// The merge, as submit and list name it, or the beginning of its id
    pub id: String,
    #[command(flatten)]
    pub connect: Connect,
}

/// `shardfuse watch`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Watch {
    /// The merge, as submit and list name it, or the beginning of its id
    pub id: String,
    #[command(flatten)]
    pub connect: Connect,
}

/// `shardfuse cancel`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Cancel {
    /// The merge, as submit and list name it, or the beginning of its id
    pub id: String,
    #[command(flatten)]
    pub connect: Connect,
    /// Also discard finished work: uploads, journal, and the output's folder if the merge created it
    #[arg(long)]
    pub discard: bool,
}

/// `shardfuse retry`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Retry {
    /// The merge, as submit and list name it, or the beginning of its id
    pub id: String,
    #[command(flatten)]
    pub connect: Connect,
}

/// `shardfuse health`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Health {
    #[command(flatten)]
    pub connect: Connect,
    /// One service, such as shardfuse.v1.Work [default: the whole process]
    #[arg(long, value_name = "NAME", default_value = "")]
    pub service: String,
}
