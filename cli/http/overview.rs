//! Merges, workers, throughput and errors as the page shows them.

use std::time::{Duration, Instant};

use serde::Serialize;
use shardfuse_coordinator::hub::{self, View, WorkerView};
use shardfuse_merge::{DeviceClass, Result};

use super::samples::{Sample, Samples};
use crate::telemetry::recent;

/// Merges that are shown, the newest first.
const MERGES: usize = 20;

/// All of it.
#[derive(Debug, Serialize)]
pub struct Overview {
    version: &'static str,
    uptime_seconds: f64,
    merges: Vec<Merge>,
    workers: Vec<WorkerRow>,
    /// Age in seconds, bytes read a second, bytes written a second; the oldest first.
    throughput: Vec<(f64, f64, f64)>,
    errors: Vec<Trouble>,
}

#[derive(Debug, Serialize)]
struct Merge {
    id: String,
    state: &'static str,
    base: String,
    adapters: usize,
    output: String,
    device_class: Option<DeviceClass>,
    bytes_done: u64,
    bytes_total: u64,
    tasks_done: u32,
    tasks_running: u32,
    tasks_total: u32,
    parts_kept: u64,
    retries: u64,
    /// At the rate of the last minute; none while nothing moves.
    eta_seconds: Option<f64>,
    failure: Option<String>,
    remarks: Vec<String>,
}

#[derive(Debug, Serialize)]
struct WorkerRow {
    name: String,
    device_class: DeviceClass,
    state: &'static str,
    slots: u32,
    running: u32,
    bytes_read: u64,
    bytes_put: u64,
    memory_used: u64,
    memory_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Trouble {
    age_seconds: f64,
    merge: Option<String>,
    message: String,
}

/// Asks the hub.
pub async fn overview(hub: &hub::Handle, uptime: Duration, samples: &Samples) -> Result<Overview> {
    let merges = hub.list(None, MERGES).await?.merges;
    let workers = hub.workers().await?;
    let now = Instant::now();
    let age = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
    Ok(Overview {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: uptime.as_secs_f64(),
        merges: merges.into_iter().map(|view| merge(view, samples)).collect(),
        workers: workers.into_iter().map(worker).collect(),
        throughput: samples.all().into_iter().map(|Sample { at, read, written }| (age(at), read, written)).collect(),
        errors: recent::all()
            .into_iter()
            .rev()
            .map(|e| Trouble { age_seconds: age(e.at), merge: e.merge, message: e.message })
            .collect(),
    })
}

fn merge(view: View, samples: &Samples) -> Merge {
    let p = view.progress;
    Merge {
        eta_seconds: samples.seconds_left(&view.id, &p),
        id: view.id.as_str().to_owned(),
        state: view.stage.as_str(),
        base: view.spec.base.clone(),
        adapters: view.spec.lora.len(),
        output: view.spec.output.clone(),
        device_class: view.device_class,
        bytes_done: p.bytes_done,
        bytes_total: p.bytes_total,
        tasks_done: p.tasks_done,
        tasks_running: p.tasks_running,
        tasks_total: p.tasks_total,
        parts_kept: p.parts_kept,
        retries: p.retries,
        failure: view.failure.map(|e| e.to_string()),
        remarks: view.remarks,
    }
}

fn worker(view: WorkerView) -> WorkerRow {
    WorkerRow {
        state: view.state(),
        name: view.name,
        device_class: view.device_class,
        slots: view.slots,
        running: view.running,
        bytes_read: view.bytes_read,
        bytes_put: view.bytes_put,
        memory_used: view.memory_used,
        memory_bytes: view.memory,
    }
}
