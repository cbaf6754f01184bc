//! Metrics, kept for Prometheus to fetch.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of the latency histograms in seconds: a part takes from milliseconds on a local disk to minutes on a
/// slow line.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Starts keeping metrics; the handle renders them. Called once, and only where somebody can fetch them.
pub fn recorder() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?.install_recorder()
}
