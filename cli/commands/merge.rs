//! `shardfuse merge`.

use std::sync::Arc;
use std::time::Instant;

use shardfuse_coordinator::failure::location;
use shardfuse_coordinator::hub::{self, Submission};
use shardfuse_coordinator::owner::Owning;
use shardfuse_coordinator::publish;
use shardfuse_merge::plan::report::Report;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::Stores;
use shardfuse_worker::device::Device;

use super::{plan, print, print_json, print_summary, submit};
use crate::args::{Format, Global, Merge};
use crate::local::{self, Machine, Outcome};
use crate::progress::Show;
use crate::report::internal;
use crate::settings::{Settings, machine};
use crate::summary::Summary;
use crate::text::Text;

/// Merges.
pub async fn run(args: Merge, global: &Global) -> Result<()> {
    if let Some(coordinator) = args.coordinator.clone() {
        return submit::merge(args, &coordinator, global).await;
    }
    let started = Instant::now();
    let settings = Settings::new(args.spec, &args.machine.resources, args.device)?;
    let stores = Arc::new(args.machine.limited(args.stores.open()?));
    let devices = machine::open(settings.device, &args.machine, settings.budget)?;
    let output = settings.spec.output.clone();
    let submission = Submission {
        spec: settings.spec,
        restart: args.replace.restart,
        force: args.replace.force,
        allow_no_change: args.replace.allow_no_change,
        priority: 0,
        device: Some(kind(&devices)),
        verify_parts: Some(0.0),
    };
    let owning = if args.take_over { Owning::AtOnce } else { Owning::Patient };
    let machine = Machine { stores: Arc::clone(&stores), budget: settings.budget, devices, owning };
    let say = |report: &Report| {
        if !global.quiet && global.format == Format::Text {
            plan::remarks(report).say();
        }
    };
    let Outcome { report, summary: done } = local::run(submission, machine, say, Show::of(global)).await?;
    let seconds = started.elapsed().as_secs_f64();
    match (done, report) {
        (Some(done), Some(report)) => print_summary(&Summary::of_local(&done, &report, seconds), global),
        (None, Some(report)) => finished(&stores, &output, &report, seconds, global).await,
        (_, None) => Err(internal("the merge is done, and nothing is known of its plan")),
    }
}

/// Which kind of device these are.
fn kind(devices: &[Device]) -> hub::Device {
    match devices.first() {
        Some(Device::Cuda(_)) => hub::Device::Cuda,
        Some(Device::Cpu) | None => hub::Device::Cpu,
    }
}

/// The output was this very merge already.
async fn finished(stores: &Stores, output: &str, report: &Report, seconds: f64, global: &Global) -> Result<()> {
    if global.format == Format::Text {
        return match global.quiet {
            true => Ok(()),
            false => print(&Text::of(format_args!(
                "{output} is this very merge already, finished: every file has its size. shardfuse verify compares the content"
            ))),
        };
    }
    let at = location(output)?;
    let manifest = publish::manifest(&*stores.open(&at), &at).await?;
    let manifest = manifest.ok_or_else(|| Error::new(Kind::OutputBusy, format!("{output} was removed meanwhile")))?;
    print_json(&Summary::of_finished(&manifest, report, seconds).json())
}
