//! `shardfuse merge`.

use std::sync::Arc;
use std::time::Instant;

use shardfuse_coordinator::{Admitted, Options, admit, planning};
use shardfuse_merge::Result;
use shardfuse_merge::output::manifest::Manifest;
use shardfuse_worker::device::{CPU_CLASS, Device};
use tokio::sync::watch;

use super::{plan, print, print_json, print_summary, submit};
use crate::args::{Format, Global, Merge};
use crate::settings::{Settings, machine};
use crate::summary::Summary;
use crate::text::Text;
use crate::{local, progress};

/// Merges.
pub async fn run(args: Merge, global: &Global) -> Result<()> {
    if let Some(coordinator) = args.coordinator.clone() {
        return submit::merge(args, &coordinator, global).await;
    }
    let started = Instant::now();
    let settings = Settings::new(args.spec, &args.machine.resources, args.device)?;
    let stores = Arc::new(args.machine.limited(args.stores.open()?));
    let devices = machine::open(settings.device, &args.machine, settings.budget)?;
    let class = devices.first().map_or(CPU_CLASS, Device::class);
    let (plan, report) = planning::plan(&stores, &settings.spec).await?;
    if !global.quiet && global.format == Format::Text {
        plan::remarks(&report).say();
    }
    let options = Options { restart: args.replace.restart, force: args.replace.force, single_coordinator: true };
    let ready = match admit(Arc::clone(&stores), plan, class, options).await? {
        Admitted::Ready(ready) => *ready,
        Admitted::Finished(manifest) => return finished(&manifest, global),
    };
    let (send, receive) = watch::channel(shardfuse_coordinator::Progress::default());
    let shown = tokio::spawn(progress::show(receive, global.quiet));
    let result = local::run(ready, stores, settings.budget, devices, send).await;
    let _ = shown.await;
    let summary = Summary::of_local(&result?, &report, started.elapsed().as_secs_f64());
    print_summary(&summary, global)
}

fn finished(manifest: &Manifest, global: &Global) -> Result<()> {
    match global.format {
        Format::Json => print_json(
            &serde_json::json!({ "output": manifest.spec.output, "plan": manifest.plan, "already_done": true }),
        ),
        Format::Text if global.quiet => Ok(()),
        Format::Text => print(&Text::of(format_args!("{} is this very merge already, finished", manifest.spec.output))),
    }
}
