//! A coordinator's merges and workers as gauges.
//!
//! They are written down when they are fetched, and not kept: a merge's series go when it ends, and those of workers that
//! left go with them. About as many merges are active at a time as the coordinator allows, so labels stay few.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use shardfuse_coordinator::hub::{self, Census, WorkerView};
use shardfuse_merge::DeviceClass;
use shardfuse_merge::Result;

use super::samples::Samples;

/// Asks the hub, and writes the gauges in Prometheus' text format.
pub async fn gauges(hub: &hub::Handle, samples: &Samples) -> Result<String> {
    let (census, workers) = (hub.census().await?, hub.workers().await?);
    let eta = census.active.iter().map(|(id, p)| samples.seconds_left(id, p)).collect();
    Ok(written(&census, &workers, eta))
}

/// `eta` is of the active merges, in their order.
fn written(census: &Census, workers: &[WorkerView], eta: Vec<Option<f64>>) -> String {
    let mut text = String::new();
    let mut family =
        Family::begin(&mut text, "shardfuse_merges", "Merges by state, ended ones as long as they are remembered");
    for (stage, count) in &census.stages {
        family.sample(&[("state", stage.as_str())], f64::from(*count));
    }
    let mut by_state: BTreeMap<(&DeviceClass, &str), u32> = BTreeMap::new();
    for worker in workers {
        for state in WorkerView::STATES {
            *by_state.entry((&worker.device_class, state)).or_default() += u32::from(worker.state() == state);
        }
    }
    let mut family = Family::begin(&mut text, "shardfuse_workers", "Workers by device class and state");
    for ((device, state), count) in by_state {
        let device = device.to_string();
        family.sample(&[("device", &device), ("state", state)], f64::from(count));
    }
    let mut family = Family::begin(&mut text, "shardfuse_pending_tasks", "Tasks that nobody works on, of all merges");
    family.sample(&[], census.pending() as f64);
    let mut family = Family::begin(&mut text, "shardfuse_runnable_tasks", "Tasks that run or could, of all merges");
    family.sample(&[], census.runnable() as f64);
    let mut family = Family::begin(&mut text, "shardfuse_tasks", "Tasks of a merge by state");
    for (id, p) in &census.active {
        let waiting = p.tasks_total.saturating_sub(p.tasks_done).saturating_sub(p.tasks_running);
        for (state, count) in [("waiting", waiting), ("running", p.tasks_running), ("done", p.tasks_done)] {
            family.sample(&[("merge", id.as_str()), ("state", state)], f64::from(count));
        }
    }
    let mut family =
        Family::begin(&mut text, "shardfuse_merge_progress_ratio", "Finished bytes of a merge over all bytes");
    for (id, p) in &census.active {
        family.sample(&[("merge", id.as_str())], p.bytes_done as f64 / p.bytes_total.max(1) as f64);
    }
    let mut family = Family::begin(
        &mut text,
        "shardfuse_merge_eta_seconds",
        "Expected time to a merge's end, at the rate since work on it began",
    );
    for ((id, _), seconds) in census.active.iter().zip(eta) {
        if let Some(seconds) = seconds {
            family.sample(&[("merge", id.as_str())], seconds);
        }
    }
    text
}

/// The samples of one gauge.
struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl<'a> Family<'a> {
    fn begin(text: &'a mut String, name: &'static str, help: &str) -> Self {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        Family { text, name }
    }

    /// Values of labels are written as Rust writes a string, which is how Prometheus reads one.
    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let braces = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{braces} {value}", self.name);
    }
}

#[cfg(test)]
mod tests {
    use shardfuse_coordinator::driver::Progress;
    use shardfuse_coordinator::hub::Stage;
    use shardfuse_coordinator::registry::MergeId;
    use shardfuse_coordinator::schedule::WorkerId;

    use super::*;

    fn worker(running: u32, present: bool) -> WorkerView {
        WorkerView {
            id: WorkerId(1),
            name: "w".into(),
            device_class: DeviceClass::Cpu,
            slots: 2,
            memory: 1,
            present,
            draining: false,
            running,
            told: true,
            bytes_put: 0,
            bytes_read: 0,
            memory_used: 0,
            stages: Default::default(),
            silent: std::time::Duration::ZERO,
        }
    }

    #[test]
    fn a_fleet_is_told_in_prometheus_words() {
        let progress = Progress {
            bytes_done: 25,
            bytes_total: 100,
            tasks_done: 1,
            tasks_running: 2,
            tasks_total: 8,
            demand: 7,
            ..Progress::default()
        };
        let active = vec![(MergeId::parse("00112233aabbccdd").unwrap(), progress)];
        let census = Census { stages: vec![(Stage::Queued, 0), (Stage::Running, 1)], active, without_class: 0 };
        let text = written(&census, &[worker(0, true), worker(2, true), worker(1, false)], vec![Some(12.5)]);
        for line in [
            "# TYPE shardfuse_merges gauge",
            r#"shardfuse_merges{state="queued"} 0"#,
            r#"shardfuse_merges{state="running"} 1"#,
            r#"shardfuse_workers{device="cpu",state="ready"} 1"#,
            r#"shardfuse_workers{device="cpu",state="busy"} 1"#,
            r#"shardfuse_workers{device="cpu",state="lost"} 1"#,
            r#"shardfuse_workers{device="cpu",state="draining"} 0"#,
            "shardfuse_pending_tasks 5",
            "shardfuse_runnable_tasks 7",
            r#"shardfuse_tasks{merge="00112233aabbccdd",state="waiting"} 5"#,
            r#"shardfuse_merge_progress_ratio{merge="00112233aabbccdd"} 0.25"#,
            r#"shardfuse_merge_eta_seconds{merge="00112233aabbccdd"} 12.5"#,
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }

    #[test]
    fn a_merge_that_has_ended_leaves_no_series() {
        let census = Census { stages: vec![(Stage::Done, 1)], active: Vec::new(), without_class: 0 };
        let text = written(&census, &[], Vec::new());
        assert!(!text.contains("merge="), "{text}");
    }
}
