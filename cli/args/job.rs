//! `job`.

use clap::Args as ClapArgs;

use super::{Connect, Spec, StoresFile};

/// Shown below `job --help`.
pub const EXAMPLES: &str = "Examples:
  As a container of an Indexed Job (deploy/kubernetes/merge-job.yaml), which sets JOB_COMPLETION_INDEX:
    shardfuse job --spec merge.yaml --coordinator https://merge-0.merge:7070 --listen 0.0.0.0:7070 \\
      --tls-ca ca.crt --tls-cert tls.crt --tls-key tls.key
  On two machines by hand:
    shardfuse job --index 0 --spec merge.yaml --coordinator http://10.0.0.1:7070 --listen 0.0.0.0:7070 --insecure
    shardfuse job --index 1 --spec merge.yaml --coordinator http://10.0.0.1:7070 --insecure

Index 0 coordinates and works, the others work. All read and write only what the spec names.

Exit codes, for the Job's podFailurePolicy:
  0  the merge is published
  1  it failed while it ran
  2  the command line or the merge spec is wrong
  3  an input was refused
  4  interrupted before publication: started again, the merge goes on where it stopped";

/// `shardfuse job`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Job {
    /// Which of the Job's pods this is; 0 coordinates
    #[arg(long, value_name = "N", env = "JOB_COMPLETION_INDEX")]
    pub index: u32,
    #[command(flatten)]
    pub spec: Spec,
    /// Where index 0 waits for the others. Beyond this machine it takes the --tls flags, or --insecure
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7070", env = "SHARDFUSE_LISTEN")]
    pub listen: String,
    #[command(flatten)]
    pub connect: Connect,
    #[command(flatten)]
    pub stores: StoresFile,
    /// How long finishing what runs may take once SIGTERM came; what is left then is handed back
    #[arg(long, value_name = "TIME", default_value = "25s")]
    pub grace: String,
    /// Answer gRPC health checks here, without TLS, for probes: the empty service for life, `ready` for readiness
    #[arg(long, value_name = "ADDR", env = "SHARDFUSE_HEALTH")]
    pub health: Option<String>,
    /// The output lies in a store without conditional writes; nothing else may work on it
    #[arg(long)]
    pub single_coordinator: bool,
    /// Have this share of the parts (0 to 1) computed again on another worker before publication; needs two workers, and a third if two differ
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = super::share)]
    pub verify_parts: f64,
    /// Discard what an earlier merge left in the output, finished or not, and begin anew
    #[arg(long)]
    pub restart: bool,
    /// Replace an output that holds something else
    #[arg(long)]
    pub force: bool,
    /// What fuses: cpu, cuda, or cuda:N. Every pod must have the same
    #[arg(long, value_name = "cpu|cuda[:N]", default_value = "cpu", env = "SHARDFUSE_DEVICE")]
    pub device: String,
    #[command(flatten)]
    pub gpu: super::Gpu,
    #[command(flatten)]
    pub http: super::Http,
}
