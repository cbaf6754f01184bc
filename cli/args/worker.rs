//! `shardfuse worker`.

use clap::Args as ClapArgs;

use shardfuse_worker::device::Choice;

use super::fleet::Connect;
use super::machine::Working;

/// Examples of the command.
pub const EXAMPLES: &str = "Examples:
  On this machine, for a coordinator on this machine:
    shardfuse worker --coordinator http://127.0.0.1:7070
  In a fleet, with certificates, below two prefixes only:
    shardfuse worker --coordinator https://coordinator.example --allow s3://models,s3://merged --tls-ca ca.pem --tls-cert worker.pem --tls-key worker.key
  On a spot machine; it finishes its parts when the cloud takes the machine back:
    shardfuse worker --coordinator https://coordinator.example --spot-notice aws

A worker reconnects whenever it loses its coordinator. On SIGTERM or SIGINT it accepts no more tasks, finishes what it can
within --grace, hands back the rest and ends with 0. A second signal ends it at once.";

/// `shardfuse worker`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Worker {
    #[command(flatten)]
    pub connect: Connect,
    #[command(flatten)]
    pub working: Working,
    /// What fuses: cpu, cuda (every usable GPU), cuda:N (one of them), or auto (the GPUs, else the CPU)
    #[arg(long, value_name = "auto|cpu|cuda[:N]", default_value = "auto")]
    pub device: Choice,
}
