//! `shardfuse worker`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use shardfuse_merge::plan::spec::DEFAULT_PART_SIZE;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_worker::device::cpu::Kernels;
use shardfuse_worker::spot::Notice;
use shardfuse_worker::{Options, Pipeline, serve};
use tracing::info;

use crate::args::{Device, Worker};
use crate::net::{Health, Target};
use crate::{memory, signal, size};

/// Works until the coordinator says stop, or until it is told to leave.
pub async fn run(args: Worker) -> Result<()> {
    let memory = args.memory.as_deref().map(|m| size::parse("--memory", m)).transpose()?;
    let memory = memory.unwrap_or_else(memory::default_budget);
    let threads = args.threads.unwrap_or_else(memory::default_threads);
    if threads == 0 {
        return Err(Error::new(Kind::Usage, "--threads is 0"));
    }
    let grace = size::parse_time("--grace", &args.grace)?;
    let notice: Option<Notice> = args.spot_notice.as_deref().map(str::parse).transpose()?;
    let target = Target::new(&args.connect.coordinator, &args.connect.way)?;
    let allow = args.access.allowed()?;
    let stores = match args.limit_rate.as_deref().map(|r| size::parse("--limit-rate", r)).transpose()? {
        None => args.access.open()?,
        Some(rate) => {
            let rate = NonZeroU64::new(rate).ok_or_else(|| Error::new(Kind::Usage, "--limit-rate is 0"))?;
            args.access.open()?.with_write_limit(rate)
        }
    };
    let kernels = match args.device {
        Device::Auto | Device::Cpu => Kernels::best(),
    };
    let pipeline = Pipeline::limited(Arc::new(stores), allow, memory, threads, kernels).map_err(|f| f.error)?;
    let options = Options {
        worker_id: random(),
        name: args.name.unwrap_or_else(host_name),
        memory,
        // Enough tasks that their parts fill the budget, so that reading, fusing and writing overlap.
        slots: args.slots.unwrap_or((memory / (8 * DEFAULT_PART_SIZE)).clamp(2, 16) as u32),
    };
    info!(name = options.name, device = pipeline.device_class(), memory, threads, slots = options.slots, coordinator = %target, "a worker");
    let health = Health::listen(args.health.as_deref()).await?;
    let connect = move || {
        let (target, health) = (target.clone(), health.clone());
        async move { health.connect(&target).await }
    };
    let reason = serve(connect, pipeline, options, told_to_leave(notice, grace)).await?;
    info!(reason, "the worker ends");
    Ok(())
}

/// Resolves to the grace at a signal or a spot notice. A second signal ends the process at once.
async fn told_to_leave(notice: Option<Notice>, grace: Duration) -> Duration {
    let noticed = async {
        match notice {
            Some(notice) if notice.given().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        true = signal::received() => eprintln!("leaving; what runs is finished within {grace:?} (once more: end at once)"),
        () = noticed => eprintln!("this machine is taken away; what runs is finished within {grace:?}"),
        else => std::future::pending().await,
    }
    tokio::spawn(async {
        if signal::received().await {
            std::process::exit(4);
        }
    });
    grace
}

/// A number that no other worker has.
pub fn random() -> u64 {
    // The standard library seeds this from the system.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

fn host_name() -> String {
    sysinfo::System::host_name().unwrap_or_else(|| "worker".to_owned())
}
