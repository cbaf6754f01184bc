//! `certs`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// Shown below `certs --help`.
pub const EXAMPLES: &str = "Examples:
  An authority and certificates for a fleet:
    shardfuse certs --out tls --host coordinator.example --host 10.0.0.7
  New certificates of the same authority, before the old ones expire:
    shardfuse certs --out tls --ca-cert tls/ca.pem --ca-key tls/ca.key --host coordinator.example --force
  As Secrets for Kubernetes (the authority's key is neither printed nor kept):
    shardfuse certs --kubernetes-secret shardfuse --host shardfuse-coordinator | kubectl apply -f -

Keep ca.key away from the machines of the fleet: anyone who has it can issue certificates for every role.";

/// `shardfuse certs`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Certs {
    /// The folder that certificates and keys are written to; keys are readable by you alone
    #[arg(long, value_name = "DIR", required_unless_present = "kubernetes_secret")]
    pub out: Option<PathBuf>,
    /// A name or address by which workers and submitters reach the coordinator. May be given several times; localhost is
    /// always included
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Days until the certificates expire; a new authority lasts at least ten years
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub days: u32,
    /// Sign with this authority instead of a new one
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    pub ca_cert: Option<PathBuf>,
    /// The private key of that authority
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    pub ca_key: Option<PathBuf>,
    /// Print a Secret for each role as YAML on stdout: NAME-coordinator-tls, NAME-worker-tls, NAME-submitter-tls, and
    /// NAME-job-tls for a Job whose pods coordinate and work
    #[arg(long, value_name = "NAME")]
    pub kubernetes_secret: Option<String>,
    /// Replace existing files
    #[arg(long)]
    pub force: bool,
}
