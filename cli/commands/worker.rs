//! `shardfuse worker`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use shardfuse_merge::Result;
use shardfuse_merge::limits::MIN_PART;
use shardfuse_merge::spec::DEFAULT_PART_SIZE;
use shardfuse_worker::device::Device;
use shardfuse_worker::spot::Notice;
use shardfuse_worker::{Options, Pipeline, serve};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::args::Worker;
use crate::http::Http;
use crate::net::{Health, Target};
use crate::report::internal;
use crate::settings::machine::{self, Budget, Share};
use crate::signal;
use crate::text::Text;

/// Works until the coordinator says stop, or until it is told to leave.
pub async fn run(args: Worker) -> Result<()> {
    let working = args.working;
    let notice: Option<Notice> = working.spot_notice.as_deref().map(str::parse).transpose()?;
    let target = Target::new(&args.connect.coordinator, &args.connect.way)?;
    let allow = working.access.allowed()?;
    let stores = Arc::new(working.machine.limited(working.access.open()?));
    let budget = Budget::of(&working.machine.resources);
    // How large parts are, each merge says.
    budget.check(MIN_PART).map_err(|e| e.hint("give more --memory: four parts of the merges that it works for"))?;
    let devices = machine::open(args.device, &working.machine, budget)?;
    let name = working.name.unwrap_or_else(host_name);
    let count = devices.len();
    let Share { memory, threads, slots } = budget.share(count, DEFAULT_PART_SIZE, working.slots);
    let told = told_to_leave(notice, working.grace.0).boxed().shared();
    let http = Http::bind(&working.http).await?;
    http.serve(None);
    if working.http.http.is_some() {
        Device::observe(&devices);
    }
    let health = Health::listen(working.health.as_deref()).await?;
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
    tokio::select! {
        true = signal::received() => Text::of(format_args!("leaving; what runs is finished within {grace:?} (once more: end at once)")).say(),
        () = signal::taken_back(notice) => Text::of(format_args!("this machine is taken away; what runs is finished within {grace:?}")).say(),
        else => std::future::pending().await,
    }
    signal::next_ends_at_once();
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
