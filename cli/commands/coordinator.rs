//! `shardfuse coordinator`.

use std::sync::Arc;
use std::time::Duration;

use shardfuse_coordinator::hub::{self, Farewell, Options};
use shardfuse_coordinator::owner::Owning;
use shardfuse_coordinator::registry::Registry;
use shardfuse_coordinator::schedule::Limits;
use shardfuse_coordinator::service::{MergesService, WorkService};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::Location;
use tracing::info;

use crate::args::Coordinator;
use crate::http::Http;
use crate::net::{self, Health, Services};
use crate::text::Text;
use crate::version::VERSION;
use crate::{place, signal};

/// Heartbeats in one lease.
const BEATS: u32 = 6;
/// The shortest lease: below it, a machine that is busy for a moment counts as lost.
const SHORTEST: Duration = Duration::from_secs(1);

/// Coordinates until it is told to stop.
pub async fn run(args: Coordinator) -> Result<()> {
    let lease = args.lease.0;
    if lease < SHORTEST {
        return Err(Error::new(Kind::Usage, format!("--lease {} is shorter than {SHORTEST:?}", args.lease)));
    }
    let state = place(&args.state)?;
    // The state may lie below a prefix that merges may use. No merge gets at it, by whatever link.
    let allow = args.access.allowed()?.except(state.clone());
    let stores = Arc::new(args.access.stores.open()?.only(&allow));
    let http = Http::bind(&args.http).await?;
    let health = Health::listen(args.health.as_deref()).await?;
    let (listener, security) = net::listen(&args.listen).await?;
    let options = Options {
        device: args.device.into(),
        max_active: usize::from(args.max_merges),
        max_queued: args.max_queued as usize,
        owning: Owning::AtOnce,
        single_coordinator: args.single_coordinator,
        heartbeat: lease / BEATS,
        limits: Limits { lease, ..Limits::default() },
        allow: allow.clone(),
        verify_parts: args.verify_parts,
        version: VERSION,
        ..Options::default()
    };
    // The records are the coordinator's own, and need not lie where merges may.
    let registry = Registry::new(Arc::new(args.access.stores.open()?), &state)?;
    let hub = hub::start(stores.clone(), Some(registry), options).await?;
    let services = Services::new()?
        .with(WorkService::new(hub.clone()).into_server())
        .with(MergesService::new(hub.clone(), stores, allow).into_server());
    let address = net::address(&listener)?;
    Text::of(format_args!("listening on {address}, state in {state}")).say();
    http.serve(Some((hub.clone(), security.url(address))));
    health.ready(true).await;
    net::serve(listener, services, security, told_to_stop(hub)).await?;
    info!("the coordinator ends");
    Ok(())
}

/// Resolves once the hub has stopped because of a signal. A second signal ends the process at once.
async fn told_to_stop(hub: hub::Handle) {
    if !signal::received().await {
        // Nobody can say so; only a kill ends it.
        std::future::pending::<()>().await;
    }
    Text::of("stopping; what was reported is journaled (once more: end at once)").say();
    signal::next_ends_at_once();
    hub.stop(Farewell::ComeBack).await;
}

/// The state's folder: a URL, or a path here.
fn place(text: &str) -> Result<Location> {
    let at = place::parse(text).map_err(|e| e.at("--state"))?;
    match at.scheme().is_read_only() {
        true => Err(Error::new(Kind::Usage, format!("--state {at} cannot be written"))),
        false => Ok(at),
    }
}
