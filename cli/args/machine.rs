//! What fuses may take of its machine, on every command that fuses.

use std::num::NonZeroUsize;

use clap::Args as ClapArgs;
use shardfuse_merge::spec::Size;

use super::fleet::Access;
use super::headings;
use super::http::Http;
use crate::size::Rate;
use crate::time::Time;

/// Memory and threads.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = headings::MACHINE)]
pub struct Resources {
    /// Memory budget [default: an eighth of the RAM, at least 512MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// Threads that fuse [default: all]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// What a command that fuses may take of its machine.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = headings::MACHINE)]
pub struct Machine {
    #[command(flatten)]
    pub resources: Resources,
    /// The most bytes that are written in a second, such as 200MiB
    ///
    /// It leaves a disk or a network to others.
    #[arg(long, value_name = "SIZE")]
    pub limit_rate: Option<Rate>,
    /// How long a GPU with queued work may finish none of it
    ///
    /// After that it counts as hung: its work fails and its worker leaves.
    #[arg(long, value_name = "TIME", default_value = "120s", env = "SHARDFUSE_GPU_PATIENCE")]
    pub gpu_patience: Time,
}

/// How a process of a fleet works: `worker`, and every pod of a `job`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Working {
    #[command(flatten)]
    pub machine: Machine,
    #[command(flatten)]
    pub access: Access,
    /// The name under which the coordinator lists this worker [default: the host's name; job: index-N]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Tasks at a time [default: as many as keep the budget busy, 2 to 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub slots: Option<u32>,
    /// How long running parts may take to finish after SIGTERM or a spot notice
    ///
    /// The rest is handed back.
    #[arg(long, value_name = "TIME", default_value = "25s")]
    pub grace: Time,
    /// Leave as on SIGTERM when the cloud announces that it takes this machine back
    ///
    /// aws, gcp, azure, or a URL that answers 200 once it does.
    #[arg(long, value_name = "aws|gcp|azure|URL")]
    pub spot_notice: Option<String>,
    /// Answer gRPC health checks on this address, without TLS, for probes
    ///
    /// The empty service tells life, `ready` tells readiness.
    #[arg(long, value_name = "ADDR", env = "SHARDFUSE_HEALTH")]
    pub health: Option<String>,
    #[command(flatten)]
    pub http: Http,
}
