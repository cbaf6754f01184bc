//! `shardfuse worker`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use shardfuse_merge::spec::DEFAULT_PART_SIZE;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_worker::device::Device;
use shardfuse_worker::spot::Notice;
use shardfuse_worker::{Options, Pipeline, serve};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::args::Worker;
use crate::http::Http;
use crate::net::{Health, Target};
use crate::report::internal;
use crate::{memory, settings, signal, size};

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
    let devices = Device::open(args.device, settings::limits(&args.gpu, memory)?).map_err(|f| f.error)?;
    let (stores, name) = (Arc::new(stores), args.name.unwrap_or_else(host_name));
    // Each device has a pipeline and a session of its own, and an even share.
    let count = devices.len();
    let (memory, threads) = (memory / count.max(1) as u64, (threads / count.max(1)).max(1));
    // Enough tasks that their parts fill the budget, so that reading, fusing and writing overlap.
    let slots = args.slots.unwrap_or((memory / (8 * DEFAULT_PART_SIZE)).clamp(2, 16) as u32);
    let told = told_to_leave(notice, grace).boxed().shared();
    let http = Http::bind(&args.http).await?;
    http.serve(None);
    if args.http.http.is_some() {
        Device::observe(&devices);
    }
    let health = Health::listen(args.health.as_deref()).await?;
    let mut workers = JoinSet::new();
    for (number, device) in devices.into_iter().enumerate() {
        let pipeline = Pipeline::limited(Arc::clone(&stores), allow.clone(), memory, threads, device);
        let pipeline = pipeline.map_err(|f| f.error)?;
        let name = if count == 1 { name.clone() } else { format!("{name}/{number}") };
        info!(name, device = pipeline.device_class(), memory, threads, slots, coordinator = %target, "a worker");
        let options = Options { worker_id: random(), name, memory, slots };
        let (target, health) = (target.clone(), health.clone());
        let connect = move || {
            let (target, health) = (target.clone(), health.clone());
            async move { health.connect(&target).await }
        };
        workers.spawn(serve(connect, pipeline, options, told.clone()));
    }
    loop {
        let ended = workers.join_next().await;
        let last = workers.is_empty();
        match ended {
            Some(Ok(Ok(reason))) => info!(reason, "the worker ends"),
            // The others go on with what it had.
            Some(Ok(Err(error))) if !last => warn!("a worker leaves: {}", error.message()),
            Some(Ok(Err(error))) => return Err(error),
            Some(Err(e)) => return Err(internal(format!("a worker ended: {e}"))),
            None => return Ok(()),
        }
        if last {
            return Ok(());
        }
    }
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
