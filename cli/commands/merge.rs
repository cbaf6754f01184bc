//! `shardfuse merge`.

use std::sync::Arc;
use std::time::Instant;

use shardfuse_coordinator::hub::{self, Submission};
use shardfuse_merge::Result;
use shardfuse_merge::plan::report::Report;
use shardfuse_worker::device::Device;

use super::{plan, print, print_json, print_summary, submit};
use crate::args::{Format, Global, Merge};
use crate::local::{self, Machine, Outcome};
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
        priority: 0,
        device: Some(kind(&devices)),
        verify_parts: Some(0.0),
    };
    let machine = Machine { stores, budget: settings.budget, devices };
    let say = |report: &Report| {
        if !global.quiet && global.format == Format::Text {
            plan::remarks(report).say();
        }
    };
    let Outcome { view, report, summary: done } = local::run(submission, machine, say, global.quiet).await?;
    match (done, report) {
        (None, _) => finished(&output, view.plan.as_deref().unwrap_or_default(), global),
        (Some(done), Some(report)) => {
            print_summary(&Summary::of_local(&done, &report, started.elapsed().as_secs_f64()), global)
        }
        (Some(_), None) => Err(internal("the merge is done, and nothing is known of its plan")),
    }
}

/// Which kind of device these are.
fn kind(devices: &[Device]) -> hub::Device {
    match devices.first() {
        Some(Device::Cuda(_)) => hub::Device::Cuda,
        Some(Device::Cpu) | None => hub::Device::Cpu,
    }
}

fn finished(output: &str, plan: &str, global: &Global) -> Result<()> {
    match global.format {
        Format::Json => print_json(&serde_json::json!({ "output": output, "plan": plan, "already_done": true })),
        Format::Text if global.quiet => Ok(()),
        Format::Text => print(&Text::of(format_args!("{output} is this very merge already, finished"))),
    }
}
