//! `job`.

use clap::Args as ClapArgs;

use shardfuse_worker::device::Choice;

use super::fleet::Connect;
use super::machine::Working;
use super::replace::Replace;
use super::spec::Spec;

/// Shown below `job --help`.
pub const EXAMPLES: &str = "Examples:
  As a container of an Indexed Job (deploy/kubernetes/merge-job.yaml), which sets JOB_COMPLETION_INDEX:
    shardfuse job --spec merge.yaml --coordinator https://merge-0.merge:7070 --listen 0.0.0.0:7070 \\
      --tls-ca ca.crt --tls-cert tls.crt --tls-key tls.key
  On two machines by hand:
    shardfuse job --index 0 --spec merge.yaml --coordinator http://10.0.0.1:7070 --listen 0.0.0.0:7070 --insecure
    shardfuse job --index 1 --spec merge.yaml --coordinator http://10.0.0.1:7070 --insecure

Index 0 coordinates and works, the others work. Each pod reads and writes only what the spec names.

Exit codes, for the Job's podFailurePolicy:
  0  the merge is published
  1  it failed, and would fail again
  2  the command line or the merge spec is wrong
  3  an input was refused
  4  interrupted before publication: the same Job resumes the merge where it stopped
  5  a store, a disk or another merge was in the way: the same Job may succeed later, and keeps what is done";

/// `shardfuse job`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Job {
    /// The number of this pod in the Job; 0 coordinates
    #[arg(long, value_name = "N", env = "JOB_COMPLETION_INDEX")]
    pub index: u32,
    /// How many pods the Job has, index 0 included. If it is 1, --verify-parts is refused
    #[arg(long, value_name = "N", env = "SHARDFUSE_WORKERS", value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: Option<u32>,
    #[command(flatten)]
    pub spec: Spec,
    /// Where index 0 listens for the others. An address beyond this machine needs the --tls flags, or --insecure
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070", env = "SHARDFUSE_LISTEN")]
    pub listen: String,
    #[command(flatten)]
    pub connect: Connect,
    #[command(flatten)]
    pub working: Working,
    /// Promise that nothing else works on the output, so that it may lie in a store without conditional puts
    #[arg(long)]
    pub single_coordinator: bool,
    /// The share of the parts (0 to 1) that other workers compute again before publication; needs two workers, and a third if two differ
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = super::share)]
    pub verify_parts: f64,
    #[command(flatten)]
    pub replace: Replace,
    /// What fuses: auto, cpu, cuda, or cuda:N. Every pod needs the same
    #[arg(long, value_name = "auto|cpu|cuda[:N]", default_value = "cpu", env = "SHARDFUSE_DEVICE")]
    pub device: Choice,
}
