//! `shardfuse merge`.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use shardfuse_coordinator::Summary;
use shardfuse_coordinator::hub::{self, Submission};
use shardfuse_merge::output::manifest;
use shardfuse_merge::plan::report::Report;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_worker::device::Device;

use super::{plan, print, print_json, submit};
use crate::args::{Format, Global, Merge};
use crate::local::{self, Machine, Outcome};
use crate::report::internal;
use crate::settings::{Settings, limits};
use crate::size;
use crate::text::Text;

/// Merges.
pub async fn run(args: Merge, global: &Global) -> Result<()> {
    if let Some(coordinator) = args.coordinator.clone() {
        return submit::merge(args, &coordinator, global).await;
    }
    let started = Instant::now();
    let rate = args.limit_rate.as_deref().map(|r| size::parse("--limit-rate", r)).transpose()?;
    let rate =
        rate.map(|r| NonZeroU64::new(r).ok_or_else(|| Error::new(Kind::Usage, "--limit-rate is 0"))).transpose()?;
    let settings = Settings::new(args.spec, args.device)?;
    let stores = Arc::new(match rate {
        Some(rate) => args.stores.open()?.with_write_limit(rate),
        None => args.stores.open()?,
    });
    let devices = Device::open(settings.device, limits(&args.gpu, settings.memory)?).map_err(|f| f.error)?;
    let output = settings.spec.output.clone();
    let submission = Submission {
        spec: settings.spec,
        restart: args.restart,
        force: args.force,
        priority: 0,
        device: Some(kind(&devices)),
        verify_parts: Some(0.0),
    };
    let machine = Machine { stores, memory: settings.memory, threads: settings.threads, devices };
    let say = |report: &Report| {
        if !global.quiet && global.format == Format::Text {
            plan::remarks(report).say();
        }
    };
    let Outcome { view, report, summary: done } = local::run(submission, machine, say, global.quiet).await?;
    match (done, report) {
        (None, _) => finished(&output, view.plan.as_deref().unwrap_or_default(), global),
        (Some(done), Some(report)) => summary(&done, &report, started, global),
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

fn summary(summary: &Summary, report: &Report, started: Instant, global: &Global) -> Result<()> {
    let Summary { manifest, pieces_new, pieces_kept, retries } = summary;
    let seconds = started.elapsed().as_secs_f64();
    let bytes: u64 = manifest.files.iter().filter(|f| f.name.ends_with(".safetensors")).map(|f| f.size).sum();
    if global.format == Format::Json {
        return print_json(&serde_json::json!({
            "output": manifest.spec.output,
            "plan": manifest.plan,
            "manifest": manifest::MANIFEST,
            "device_class": manifest.device_class,
            "seconds": seconds,
            "bytes_written": bytes,
            "tensors_changed": report.tensors_changed,
            "tensors_copied": report.tensors_copied,
            "parts_written": pieces_new,
            "parts_kept": pieces_kept,
            "retries": retries,
            "warnings": report.warnings,
            "conflicts": report.conflicts,
            "notes": report.notes.iter().chain(&manifest.notes).collect::<Vec<_>>(),
            "files": manifest.files,
        }));
    }
    if global.quiet {
        return Ok(());
    }
    let (changed, copied) = (report.tensors_changed, report.tensors_copied);
    let (what, base) = (adapters(report), &manifest.spec.base);
    let mut text = Text::of(format_args!("merged {what} into {base}: {changed} tensors changed, {copied} copied"));
    let kept = if *pieces_kept > 0 { format!(", {pieces_kept} parts were there already") } else { String::new() };
    text.line(format_args!("wrote {} to {} in {seconds:.1} s{kept}", size::show(bytes), manifest.spec.output));
    text.append(shorten(&manifest.notes, "note"));
    text.line(format_args!("plan {}, digests in {}", &manifest.plan[..12], manifest::MANIFEST));
    print(&text)
}

fn adapters(report: &Report) -> String {
    match report.adapters.as_slice() {
        [one] => format!("1 adapter ({})", one.kind),
        many => {
            format!("{} adapters ({})", many.len(), many.iter().map(|a| a.kind.as_str()).collect::<Vec<_>>().join(", "))
        }
    }
}

/// At most five lines of one kind, and how many more there are.
fn shorten(lines: &[String], label: &str) -> Text {
    const MOST: usize = 5;
    let mut text = Text::new();
    lines.iter().take(MOST).for_each(|l| text.line(format_args!("{label}: {l}")));
    if lines.len() > MOST {
        text.line(format_args!("{label}: and {} more in {}", lines.len() - MOST, manifest::MANIFEST));
    }
    text
}
