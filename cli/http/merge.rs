//! A merge as the page shows it.

use serde::Serialize;
use shardfuse_coordinator::hub::View;
use shardfuse_merge::DeviceClass;
use shardfuse_merge::spec::{MergeSpec, OPTIONS};

use super::samples::Samples;

/// Names of adapters that a row of the list has.
const NAMES: usize = 8;

/// A merge in the list. Times are in milliseconds since 1970.
#[derive(Debug, Serialize)]
pub struct Merge {
    id: String,
    state: &'static str,
    /// What it waits for, if it does.
    waiting: Option<String>,
    base: String,
    /// Their names, the first of them.
    adapters: Vec<String>,
    adapters_total: usize,
    output: String,
    device_class: Option<DeviceClass>,
    submitted: u64,
    began: Option<u64>,
    ended: Option<u64>,
    bytes_done: u64,
    bytes_total: u64,
    tasks_done: u32,
    tasks_running: u32,
    tasks_total: u32,
    workers: u32,
    parts_kept: u64,
    retries: u64,
    expired: u64,
    repeated: u64,
    /// Bytes a second: of the last minute, or of all of it once it has ended.
    rate: Option<f64>,
    /// At the rate since work began; none before anything was done.
    eta_seconds: Option<f64>,
    failure: Option<Failure>,
}

/// Why it failed, or is held.
#[derive(Debug, Serialize)]
struct Failure {
    kind: &'static str,
    message: String,
    hint: Option<String>,
}

/// All that is known of a merge beside its row.
#[derive(Debug, Serialize)]
pub struct Details {
    /// Place and weight.
    adapters: Vec<(String, f64)>,
    /// Those that are not at their default.
    options: Vec<(&'static str, Vec<String>)>,
    plan: Option<String>,
    trace: Option<String>,
    priority: i32,
    remarks: Vec<String>,
}

impl Merge {
    /// Of a view.
    pub fn new(view: &View, samples: &Samples) -> Merge {
        let p = &view.progress;
        let over_all = || {
            let (began, ended) = (view.began?, view.ended?);
            let seconds = ended.saturating_sub(began) as f64 / 1000.0;
            // What was kept was done before.
            (p.parts_kept == 0 && p.bytes_done > 0 && seconds > 0.0).then(|| p.bytes_done as f64 / seconds)
        };
        Merge {
            id: view.id.as_str().to_owned(),
            state: view.stage.as_str(),
            waiting: view.waiting.clone(),
            base: view.spec.base.clone(),
            adapters: view.spec.lora.iter().take(NAMES).map(|lora| name(&lora.path).to_owned()).collect(),
            adapters_total: view.spec.lora.len(),
            output: view.spec.output.clone(),
            device_class: view.device_class.clone(),
            submitted: view.submitted,
            began: view.began,
            ended: view.ended,
            bytes_done: p.bytes_done,
            bytes_total: p.bytes_total,
            tasks_done: p.tasks_done,
            tasks_running: p.tasks_running,
            tasks_total: p.tasks_total,
            workers: p.workers,
            parts_kept: p.parts_kept,
            retries: p.retries,
            expired: p.expired,
            repeated: p.repeated,
            rate: if view.stage.has_ended() { over_all() } else { samples.of_merge(&view.id) },
            eta_seconds: samples.seconds_left(&view.id, p),
            failure: view.failure.as_ref().map(|e| Failure {
                kind: e.kind().as_str(),
                message: e.message().to_owned(),
                hint: e.advice().map(str::to_owned),
            }),
        }
    }
}

impl Details {
    /// Of a view.
    pub fn new(view: &View) -> Details {
        let plain = MergeSpec::of(view.spec.base.clone(), view.spec.lora.clone(), view.spec.output.clone());
        let chosen = OPTIONS.iter().filter(|option| option.get(&view.spec) != option.get(&plain));
        Details {
            adapters: view.spec.lora.iter().map(|lora| (lora.path.clone(), lora.weight)).collect(),
            options: chosen.map(|option| (option.field, option.get(&view.spec))).collect(),
            plan: view.plan.clone(),
            trace: view.trace.clone(),
            priority: view.priority,
            remarks: view.remarks.clone(),
        }
    }
}

/// The last name of a place.
fn name(place: &str) -> &str {
    place.trim_end_matches('/').rsplit('/').next().unwrap_or(place)
}
