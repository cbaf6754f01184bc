//! `shardfuse worker`.

use clap::Args as ClapArgs;

use shardfuse_worker::device::Choice;

use super::{Access, Connect};

/// Examples of the command.
pub const EXAMPLES: &str = "Examples:
  On this machine, for a coordinator on this machine:
    shardfuse worker --coordinator http://127.0.0.1:7070
  In a fleet, with certificates, below two prefixes only:
    shardfuse worker --coordinator https://coordinator.example --allow s3://models,s3://merged --tls-ca ca.pem --tls-cert worker.pem --tls-key worker.key
  On a spot machine, that finishes its parts when the cloud takes it back:
    shardfuse worker --coordinator https://coordinator.example --spot-notice aws

A worker connects again by itself whenever it loses its coordinator. SIGTERM or SIGINT: it takes nothing new, finishes
what it can within --grace, hands back the rest and ends with 0. A second signal ends it at once.";

/// `shardfuse worker`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Worker {
    #[command(flatten)]
    pub connect: Connect,
    #[command(flatten)]
    pub access: Access,
    /// What the coordinator calls this worker [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Memory budget [default: an eighth of the RAM, at least 512MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Threads that fuse [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Tasks at a time [default: as many as keep the budget busy, 2 to 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub slots: Option<u32>,
    /// How long what runs may take to finish after SIGTERM or a spot notice
    #[arg(long, value_name = "TIME", default_value = "25s")]
    pub grace: String,
    /// Write at most so many bytes a second, such as 200MiB
    #[arg(long, value_name = "SIZE")]
    pub limit_rate: Option<String>,
    /// What fuses: cpu, cuda (every usable GPU), cuda:N (one of them), or auto (the GPUs, else the CPU)
    #[arg(long, value_name = "auto|cpu|cuda[:N]", default_value = "auto")]
    pub device: Choice,
    #[command(flatten)]
    pub gpu: super::Gpu,
    /// Leave as on SIGTERM when the cloud announces that it takes this machine back: aws, gcp, azure, or a URL that
    /// answers 200 once it does
    #[arg(long, value_name = "aws|gcp|azure|URL")]
    pub spot_notice: Option<String>,
    /// Answer gRPC health checks here, without TLS, for probes: the empty service for life, `ready` for readiness
    #[arg(long, value_name = "ADDR", env = "SHARDFUSE_HEALTH")]
    pub health: Option<String>,
    #[command(flatten)]
    pub http: super::Http,
}
