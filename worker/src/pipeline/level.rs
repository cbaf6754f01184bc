//! Gauges of a pipeline. A process with several GPUs has several pipelines; what each adds to a gauge adds up.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::gauge;

use crate::device::Device;

/// A pipeline's part of a gauge.
#[derive(Debug)]
pub struct Level {
    name: &'static str,
    shown: AtomicU64,
}

impl Level {
    /// Nothing, so far.
    pub fn new(name: &'static str) -> Self {
        Level { name, shown: AtomicU64::new(0) }
    }

    /// Shows what it is now.
    pub fn show(&self, now: u64) {
        let before = self.shown.swap(now, Ordering::Relaxed);
        gauge!(self.name).increment(now as f64 - before as f64);
    }
}

/// One of a number of things, counted as long as it is held: also where its work is given up.
#[derive(Debug)]
pub struct OneOf(&'static str);

impl OneOf {
    /// A piece that waits for memory.
    pub fn waiting() -> Self {
        Self::new("shardfuse_queue_depth")
    }

    /// A piece that has its memory.
    pub fn in_flight() -> Self {
        Self::new("shardfuse_parts_in_flight")
    }

    fn new(name: &'static str) -> Self {
        gauge!(name).increment(1.0);
        OneOf(name)
    }
}

impl Drop for OneOf {
    fn drop(&mut self) {
        gauge!(self.0).decrement(1.0);
    }
}

/// The budget, and everything at nothing: a rate needs a value before the first part.
pub fn begin(memory: u64, device: &Device) {
    gauge!("shardfuse_memory_budget_bytes").increment(memory as f64);
    gauge!("shardfuse_memory_used_bytes").increment(0.0);
    drop((OneOf::waiting(), OneOf::in_flight()));
    metrics::counter!("shardfuse_fused_bytes_total", "device" => name(device)).increment(0);
    metrics::counter!("shardfuse_copied_bytes_total").increment(0);
}

/// A device as metrics name it.
pub fn name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn what_two_pipelines_use_adds_up_and_goes_again() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let shown = |line: &str| recorder.handle().render().lines().any(|l| l == line);
        metrics::with_local_recorder(&recorder, || {
            begin(100, &Device::Cpu);
            begin(50, &Device::Cpu);
            assert!(shown("shardfuse_memory_budget_bytes 150"));
            let (one, two) = (Level::new("shardfuse_memory_used_bytes"), Level::new("shardfuse_memory_used_bytes"));
            one.show(70);
            two.show(30);
            one.show(10);
            assert!(shown("shardfuse_memory_used_bytes 40"));
            let part = (OneOf::in_flight(), OneOf::in_flight());
            assert!(shown("shardfuse_parts_in_flight 2") && shown("shardfuse_queue_depth 0"));
            drop(part);
            assert!(shown("shardfuse_parts_in_flight 0"));
            assert!(shown(r#"shardfuse_fused_bytes_total{device="cpu"} 0"#));
        });
    }
}
