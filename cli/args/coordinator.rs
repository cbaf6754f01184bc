//! `shardfuse coordinator`.

use clap::{Args as ClapArgs, ValueEnum};
use shardfuse_coordinator::hub::Device;

use super::fleet::{Access, Listen};
use crate::time::Time;

/// Examples of the command.
pub const EXAMPLES: &str = "Examples:
  On this machine, for files below one folder:
    shardfuse coordinator --state ~/.shardfuse-state --allow /data
  In a fleet, with certificates, below two prefixes only:
    shardfuse coordinator --listen 0.0.0.0:7070 --state s3://merged/.coordinator --allow s3://models,s3://merged --tls-ca ca.pem --tls-cert coordinator.pem --tls-key coordinator.key

A stopped or killed coordinator resumes where it was when it is started again with the same --state, here or on another
machine. On SIGTERM or SIGINT it refuses submissions, journals what was reported and ends with 0; its workers keep trying to
reach the next one. A second signal ends it at once.";

/// `shardfuse coordinator`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Coordinator {
    #[command(flatten)]
    pub listen: Listen,
    /// Where the coordinator keeps its list of merges: a folder of its own, in any store
    #[arg(long, value_name = "URL", env = "SHARDFUSE_STATE")]
    pub state: String,
    #[command(flatten)]
    pub access: Access,
    /// Promise that no other coordinator works on the same outputs, so that they may lie in stores without conditional puts
    #[arg(long)]
    pub single_coordinator: bool,
    /// The share of the parts (0 to 1) that other workers compute again before publication, unless the submission gives another share
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = super::share)]
    pub verify_parts: f64,
    /// The device of merges that do not choose one
    #[arg(long, value_enum, ignore_case = true, default_value_t = MergeDevice::Cpu)]
    pub device: MergeDevice,
    /// Merges that run at a time; the others wait
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_merges: u16,
    /// Merges that may wait. Further submissions are refused with busy and may be repeated later
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_queued: u32,
    /// How long a worker may be silent before its tasks go to others. Workers send a heartbeat six times as often
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub lease: Time,
    /// Answer gRPC health checks on this address, without TLS, for probes: the empty service for life, `ready` for readiness
    #[arg(long, value_name = "ADDR", env = "SHARDFUSE_HEALTH")]
    pub health: Option<String>,
    #[command(flatten)]
    pub http: super::http::Http,
}

impl From<MergeDevice> for Device {
    fn from(device: MergeDevice) -> Device {
        match device {
            MergeDevice::Cpu => Device::Cpu,
            MergeDevice::Cuda => Device::Cuda,
        }
    }
}

/// The device that a merge is computed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MergeDevice {
    /// The processor
    Cpu,
    /// NVIDIA cards, all of the class of the first worker that has one
    Cuda,
}
