//! Merges, workers, throughput, errors and events as the page shows them.

use std::time::{Duration, Instant};

use serde::Serialize;
use shardfuse_coordinator::happening::{Happening, Happenings};
use shardfuse_coordinator::hub::{self, View, WorkerView};
use shardfuse_coordinator::registry::MergeId;
use shardfuse_merge::{DeviceClass, Result};

use super::merge::{Details, Merge};
use super::samples::{Sample, Samples};
use super::stretch::Stretch;
use crate::telemetry::recent;
use crate::version::VERSION;

/// Merges that are shown at the most, of those on their way and of those that have ended.
const MERGES: usize = 1000;
/// Workers that are shown.
const WORKERS: usize = 500;

/// What changes from second to second. Times are in milliseconds since 1970.
#[derive(Debug, Serialize)]
pub struct Overview {
    version: &'static str,
    uptime_seconds: f64,
    now: u64,
    /// Those that have not ended.
    merges: Vec<Merge>,
    /// How many have not ended.
    merges_total: usize,
    ended: EndedCount,
    workers: Vec<WorkerRow>,
    workers_total: usize,
    /// Age in seconds, bytes read a second, bytes written a second; the oldest first.
    throughput: Vec<(f64, f64, f64)>,
    errors: Vec<Trouble>,
    happenings: Vec<Event>,
}

/// Which merges have ended: the page asks for them only when this changes.
#[derive(Debug, Serialize)]
struct EndedCount {
    count: usize,
    last: Option<u64>,
}

#[derive(Debug, Serialize)]
struct WorkerRow {
    name: String,
    device_class: DeviceClass,
    state: &'static str,
    slots: u32,
    running: u32,
    read_rate: f64,
    written_rate: f64,
    memory_used: u64,
    memory_bytes: u64,
    silent_seconds: f64,
    /// Parts and blocks that wait, are fetched, fused, put.
    stages: [u32; 4],
}

#[derive(Debug, Serialize)]
struct Trouble {
    age_seconds: f64,
    merge: Option<String>,
    message: String,
    hint: Option<String>,
}

/// Something that happened.
#[derive(Debug, Serialize)]
struct Event {
    at: u64,
    worker: Option<String>,
    fault: bool,
    text: String,
    hint: Option<String>,
}

/// A merge's own page.
#[derive(Debug, Serialize)]
pub struct MergePage {
    now: u64,
    merge: Merge,
    details: Details,
    happenings: Vec<Event>,
    /// How many happened before those.
    earlier: u64,
}

/// A piece of a merge's task stream.
#[derive(Debug, Serialize)]
pub struct StreamPiece {
    now: u64,
    stretches: Vec<Stretch>,
}

/// Asks the hub for everything that is on its way.
pub async fn overview(hub: &hub::Handle, uptime: Duration, samples: &Samples, now: u64) -> Result<Overview> {
    let (over, mut open): (Vec<View>, Vec<View>) = all(hub).await?.into_iter().partition(|view| view.ended.is_some());
    let (mut workers, merges_total) = (hub.workers().await?, open.len());
    let happenings = hub.happenings(None).await?.unwrap_or_default();
    open.truncate(MERGES);
    let workers_total = workers.len();
    // Those that are lost or drain are looked for first.
    workers.sort_by(|a, b| (a.present, !a.draining, &a.name, a.id).cmp(&(b.present, !b.draining, &b.name, b.id)));
    workers.truncate(WORKERS);
    let here = Instant::now();
    let age = |at: Instant| here.saturating_duration_since(at).as_secs_f64();
    Ok(Overview {
        version: VERSION,
        uptime_seconds: uptime.as_secs_f64(),
        now,
        merges: open.iter().map(|view| Merge::new(view, samples)).collect(),
        merges_total,
        ended: EndedCount { count: over.len(), last: over.iter().filter_map(|view| view.ended).max() },
        workers: workers.into_iter().map(|view| worker(view, samples)).collect(),
        workers_total,
        throughput: samples.all().into_iter().map(|Sample { at, read, written }| (age(at), read, written)).collect(),
        errors: recent::all()
            .into_iter()
            .rev()
            .map(|e| Trouble { age_seconds: age(e.at), merge: e.merge, message: e.message, hint: e.hint })
            .collect(),
        happenings: events(&happenings),
    })
}

/// The merges that have ended, the last one first.
pub async fn ended(hub: &hub::Handle, samples: &Samples) -> Result<Vec<Merge>> {
    let mut over: Vec<View> = all(hub).await?.into_iter().filter(|view| view.ended.is_some()).collect();
    over.sort_by_key(|view| std::cmp::Reverse(view.ended));
    Ok(over.iter().take(MERGES).map(|view| Merge::new(view, samples)).collect())
}

/// One merge; `None` if it is not known.
pub async fn merge(hub: &hub::Handle, samples: &Samples, id: MergeId, now: u64) -> Result<Option<MergePage>> {
    let Some(view) = hub.get(id.clone()).await? else { return Ok(None) };
    let view = view.borrow().clone();
    let happenings = hub.happenings(Some(id)).await?.unwrap_or_default();
    Ok(Some(MergePage {
        now,
        merge: Merge::new(&view, samples),
        details: Details::new(&view),
        earlier: happenings.earlier,
        happenings: events(&happenings),
    }))
}

/// What came after a number in a merge's task stream.
pub async fn stream(hub: &hub::Handle, id: MergeId, after: u64, now: u64) -> Result<StreamPiece> {
    let stretches = hub.stream(id, after).await?.into_iter().map(Stretch::from).collect();
    Ok(StreamPiece { now, stretches })
}

/// Every merge that the hub knows, the newest first.
async fn all(hub: &hub::Handle) -> Result<Vec<View>> {
    let (mut views, mut after) = (Vec::new(), None);
    loop {
        let page = hub.list(after, MERGES).await?;
        views.extend(page.merges);
        after = page.next;
        if after.is_none() {
            return Ok(views);
        }
    }
}

/// The newest first.
fn events(happenings: &Happenings) -> Vec<Event> {
    let event = |Happening { at, worker, fault, text, hint }: &Happening| Event {
        at: *at,
        worker: worker.clone(),
        fault: *fault,
        text: text.clone(),
        hint: hint.clone(),
    };
    happenings.iter().rev().map(event).collect()
}

fn worker(view: WorkerView, samples: &Samples) -> WorkerRow {
    let (read_rate, written_rate) = samples.of_worker(view.id);
    let now = view.stages;
    WorkerRow {
        state: view.state(),
        name: view.name,
        device_class: view.device_class,
        slots: view.slots,
        running: view.running,
        read_rate,
        written_rate,
        memory_used: view.memory_used,
        memory_bytes: view.memory,
        silent_seconds: view.silent.as_secs_f64(),
        stages: [now.waiting, now.fetching, now.fusing, now.putting],
    }
}
