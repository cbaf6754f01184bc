//! The command line, as typed. `settings` says what it means.

mod certs;
mod clean;
mod client;
mod coordinator;
mod fleet;
mod http;
mod job;
mod machine;
mod merge;
mod read;
mod replace;
mod spec;
mod worker;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

pub use certs::Certs;
pub use clean::Clean;
pub use client::{Cancel, Get, Health, List, Retry, Submit, Watch};
pub use coordinator::Coordinator;
pub use fleet::{Access, Connect, DEFAULT_PORT, Listen, StoresFile, Tls, Way};
pub use http::Http;
pub use job::Job;
pub use machine::{Machine, Resources};
pub use merge::{Merge, Plan};
pub use read::{Inspect, Verify};
pub use replace::Replace;
pub use spec::Spec;
pub use worker::Worker;

/// Merges LoRA-family adapters into checkpoints of any size.
#[derive(Debug, Parser)]
#[command(version, about, long_about = "Merges LoRA-family adapters (PEFT folders) into Hugging Face checkpoints of any size.\n\nThe merge is exact to one rounding, needs no more memory than --memory whatever the model's size, gives the same bytes for any number of threads, and resumes where it stopped.", after_long_help = AFTER)]
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
  4  interrupted: the same command resumes where it stopped";

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
    /// Print no progress and no summary
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
    #[command(after_long_help = merge::EXAMPLES)]
    Merge(Merge),
    /// Show what a merge would do; reads headers only and writes nothing
    #[command(after_long_help = merge::PLAN_EXAMPLES)]
    Plan(Plan),
    /// Show the tensors and configuration of a checkpoint or adapter; reads headers only
    #[command(
        after_long_help = "Examples:\n  shardfuse inspect Llama-2-7b-hf\n  shardfuse inspect my-lora --format json"
    )]
    Inspect(Inspect),
    /// Check a merged model against its manifest, and against base and adapters
    #[command(after_long_help = "Examples:\n  shardfuse verify merged\n  shardfuse verify merged --sample 16")]
    Verify(Verify),
    /// Remove what an unfinished merge left in an output: its uploads and its state
    #[command(after_long_help = clean::EXAMPLES)]
    Clean(Clean),
    /// Accept merges and assign their tasks to workers
    #[command(after_long_help = coordinator::EXAMPLES)]
    Coordinator(Box<Coordinator>),
    /// Submit a merge to a coordinator
    #[command(after_long_help = client::SUBMIT_EXAMPLES)]
    Submit(Box<Submit>),
    /// List a coordinator's merges
    #[command(
        after_long_help = "Examples:\n  shardfuse list --coordinator http://127.0.0.1:7070\n  shardfuse list --format json | jq -r '.merges[] | select(.state == \"failed\") | .id'"
    )]
    List(List),
    /// Show one merge of a coordinator
    #[command(after_long_help = "Examples:\n  shardfuse get 7fb2c1d0\n  shardfuse get 7fb2c1d0 --format json")]
    Get(Get),
    /// Follow one merge of a coordinator to its end
    #[command(after_long_help = client::WATCH_EXAMPLES)]
    Watch(Watch),
    /// Stop a merge; finished work stays, and the same submission resumes it
    #[command(after_long_help = "Examples:\n  shardfuse cancel 7fb2c1d0\n  shardfuse cancel 7fb2c1d0 --discard")]
    Cancel(Cancel),
    /// Queue a held, failed or cancelled merge again
    #[command(after_long_help = client::RETRY_EXAMPLES)]
    Retry(Retry),
    /// Ask whether a coordinator serves, for probes
    #[command(after_long_help = client::HEALTH_EXAMPLES)]
    Health(Health),
    /// Be one pod of a merge that is a Kubernetes Job
    #[command(after_long_help = job::EXAMPLES)]
    Job(Box<Job>),
    /// Work for a coordinator: read, fuse and write parts until it says to leave
    #[command(after_long_help = worker::EXAMPLES)]
    Worker(Box<Worker>),
    /// Make an authority and certificates for the roles of a fleet
    #[command(after_long_help = certs::EXAMPLES)]
    Certs(Certs),
}

/// A share, from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(share) => Err(format!("{share} is not between 0 and 1")),
        Err(_) => Err("expected a number from 0 to 1, such as 0.05".to_owned()),
    }
}
