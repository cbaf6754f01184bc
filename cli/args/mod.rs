//! The command line, as typed. `settings` says what it means.

mod certs;
mod clean;
mod client;
mod coordinator;
mod diff;
mod fleet;
mod generate;
mod headings;
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
pub use diff::Diff;
pub use fleet::{Access, Connect, DEFAULT_PORT, Listen, StoresFile, Tls, Way};
pub use generate::{Completions, Man};
pub use http::Http;
pub use job::Job;
pub use machine::{Machine, Resources};
pub use merge::{Merge, Plan};
pub use read::{Index, Inspect, Verify};
pub use replace::Replace;
pub use spec::Spec;
pub use worker::Worker;

use crate::version::VERSION;

/// Merges LoRA-family adapters into checkpoints of any size.
#[derive(Debug, Parser)]
#[command(version = VERSION, about, long_about = "Merges LoRA-family adapters (PEFT folders) into Hugging Face checkpoints of any size.\n\nThe merge is exact to one rounding, needs no more memory than --memory whatever the model's size, gives the same bytes for any number of threads, and resumes where it stopped.", after_long_help = AFTER)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str = "Exit codes:
  0  done
  1  the merge failed, and would fail again (or verify or diff --expect found a difference)
  2  the command line or the merge spec is wrong
  3  an input was refused
  4  interrupted: the same command resumes where it stopped
  5  a store, a disk or another merge was in the way: the same command may succeed later";

/// Flags of every command.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = headings::GENERAL)]
pub struct Global {
    /// How the result is printed on stdout
    #[arg(long, global = true, value_enum, ignore_case = true, default_value_t = Format::Text, hide_possible_values = true, value_name = "text|json")]
    pub format: Format,
    /// How an error is printed on stderr
    ///
    /// With json the last line is {"error":{"kind":...,"message":...,"hint":...}}.
    #[arg(long, global = true, value_enum, ignore_case = true, default_value_t = Format::Text, hide_possible_values = true, value_name = "text|json")]
    pub error_format: Format,
    /// How log lines are printed on stderr
    ///
    /// SHARDFUSE_LOG, or RUST_LOG where that is not set, says what is logged, such as "info" or "shardfuse_worker=debug".
    #[arg(long, global = true, value_enum, ignore_case = true, default_value_t = Format::Text, hide_possible_values = true, value_name = "text|json")]
    pub log_format: Format,
    /// How progress is printed on stderr
    ///
    /// With json each line is {"progress":{...}}; docs/cli.md has its fields.
    #[arg(long, global = true, value_enum, ignore_case = true, default_value_t = Format::Text, hide_possible_values = true, value_name = "text|json")]
    pub progress: Format,
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
    /// Read a base once and write down the digests of its bytes, for merges in which the store copies them
    #[command(
        after_long_help = "Examples:\n  shardfuse index s3://models/llama-70b\n  shardfuse index /models/llama-70b --to /work/llama-70b.index.json"
    )]
    Index(Index),
    /// Check a merged model against its manifest, and against base and adapters
    #[command(after_long_help = "Examples:\n  shardfuse verify merged\n  shardfuse verify merged --sample 16")]
    Verify(Verify),
    /// Show what changed between two checkpoints, and whether it is what an adapter says
    #[command(after_long_help = diff::EXAMPLES)]
    Diff(Diff),
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
    /// Print a script that completes commands and flags in a shell
    #[command(after_long_help = generate::COMPLETIONS_EXAMPLES)]
    Completions(Completions),
    /// Print a man page, or write all of them
    #[command(after_long_help = generate::MAN_EXAMPLES)]
    Man(Man),
}

impl Command {
    /// Whether the process serves others or works for them.
    pub fn serves(&self) -> bool {
        matches!(self, Command::Coordinator(_) | Command::Worker(_) | Command::Job(_))
    }
}

/// A share, from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(share) => Err(format!("{share} is not between 0 and 1")),
        Err(_) => Err("expected a number from 0 to 1, such as 0.05".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The help of every command, long and short, with its name.
    fn helps() -> Vec<(String, String)> {
        let mut all = Args::command();
        all.build();
        let of = |command: &clap::Command| {
            let (name, mut command) = (command.get_name().to_owned(), command.clone().term_width(70));
            [command.render_help(), command.render_long_help()].map(|help| (name.clone(), help.to_string()))
        };
        all.get_subcommands().filter(|command| command.get_name() != "help").flat_map(of).collect()
    }

    /// Headings and the lines below them.
    fn sections(help: &str) -> Vec<(&str, Vec<&str>)> {
        let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
        for line in help.lines() {
            match line.strip_suffix(':').filter(|heading| !heading.starts_with(' ')) {
                Some(heading) => found.push((heading, Vec::new())),
                None => found.last_mut().into_iter().for_each(|(_, lines)| lines.push(line)),
            }
        }
        found
    }

    fn heading_of<'a>(help: &'a str, flag: &str) -> &'a str {
        let named = |line: &str| {
            line.trim_start().split([' ', ',']).take(3).any(|word| word == flag) && line.trim_start().starts_with('-')
        };
        sections(help)
            .iter()
            .find(|(_, lines)| lines.iter().any(|line| named(line)))
            .map_or("none", |(heading, _)| heading)
    }

    #[test]
    fn the_flags_of_every_command_stand_last_under_one_heading() {
        for (name, help) in helps() {
            let of_flags: Vec<&str> = sections(&help)
                .iter()
                .filter(|(_, lines)| lines.iter().any(|line| line.trim_start().starts_with("--")))
                .map(|(heading, _)| *heading)
                .filter(|heading| *heading != "Examples")
                .collect();
            assert_eq!(of_flags.last(), Some(&headings::GENERAL), "{name}: {of_flags:?}");
            for flag in ["--format", "--error-format", "--log-format", "--quiet"] {
                assert_eq!(heading_of(&help, flag), headings::GENERAL, "{name} {flag}");
            }
        }
    }

    #[test]
    fn a_flag_stands_under_the_heading_that_it_belongs_to() {
        let helps = helps();
        for (name, flag, heading) in [
            ("submit", "--restart", headings::EXISTING),
            ("submit", "--wait", headings::FLEET),
            ("merge", "--rounding", "Adapters"),
            ("merge", "--quantised", "Base"),
            ("merge", "--dtype", "Output"),
            ("merge", "--device", headings::MACHINE),
            ("worker", "--tls-ca", headings::SECURITY),
        ] {
            for (_, help) in helps.iter().filter(|(of, _)| of == name) {
                assert_eq!(heading_of(help, flag), heading, "{name} {flag}\n{help}");
            }
        }
    }

    #[test]
    fn help_names_no_option_that_has_a_single_value_and_the_short_form_is_shorter() {
        for pair in helps().chunks(2) {
            let [(name, short), (_, long)] = pair else { unreachable!("two of each") };
            assert!(!long.contains("--density") && !long.contains("--combine"), "{name}");
            assert!(short.len() < long.len(), "{name}");
        }
    }

    #[test]
    fn paragraphs_wrap_at_the_width_of_the_terminal() {
        // Commands to copy stay on their line.
        let is_text = |line: &&str| !line.contains("shardfuse ") && !line.trim_start().starts_with("--");
        for (name, help) in helps() {
            for line in help.lines().filter(is_text) {
                assert!(line.chars().count() <= 70, "{name}: {line:?}");
            }
        }
    }
}
