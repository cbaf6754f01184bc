//! Metrics, kept for Prometheus to fetch.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::version::VERSION;

/// Upper bounds of the latency histograms in seconds: a part takes from milliseconds on a local disk to minutes on a
/// slow line.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Starts keeping metrics; the handle renders them. Called once, and only where somebody can fetch them.
pub fn recorder() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .install_recorder()?;
    describe();
    gauge!("shardfuse_build_info", "version" => VERSION).set(1.0);
    Ok(handle)
}

/// What each metric is, as `/metrics` describes it. The gauges of merges and workers bring their own.
fn describe() {
    describe_gauge!("shardfuse_build_info", "Which version runs");
    for (name, unit, help) in COUNTERS {
        describe_counter!(*name, *unit, *help);
    }
    for (name, unit, help) in GAUGES {
        describe_gauge!(*name, *unit, *help);
    }
    for (name, help) in HISTOGRAMS {
        describe_histogram!(*name, Unit::Seconds, *help);
    }
}

const COUNTERS: &[(&str, Unit, &str)] = &[
    (
        "shardfuse_store_bytes_total",
        Unit::Bytes,
        "Bytes of objects read, written and copied by the store itself, by store",
    ),
    ("shardfuse_store_requests_total", Unit::Count, "Calls of stores by what came of them"),
    ("shardfuse_store_retries_total", Unit::Count, "Calls of stores that were made again"),
    ("shardfuse_store_http_requests_total", Unit::Count, "HTTP requests to object stores by status"),
    ("shardfuse_fused_bytes_total", Unit::Bytes, "Bytes of tensors that an adapter changed, computed by device"),
    ("shardfuse_read_bytes_total", Unit::Bytes, "Bytes that parts were made of"),
    ("shardfuse_put_bytes_total", Unit::Bytes, "Bytes of parts that were put"),
    ("shardfuse_copied_bytes_total", Unit::Bytes, "Bytes of parts that the store copied by itself"),
    ("shardfuse_task_failures_total", Unit::Count, "Tasks that this worker gave up, by kind of the error"),
    ("shardfuse_sessions_lost_total", Unit::Count, "Sessions with the coordinator that broke or could not be opened"),
    ("shardfuse_merges_ended_total", Unit::Count, "Merges that ended, by outcome"),
    ("shardfuse_bytes_merged_total", Unit::Bytes, "Bytes of parts whose receipts were accepted"),
    ("shardfuse_pieces_total", Unit::Count, "Parts, blocks of statistics and checks that workers finished, by kind"),
    ("shardfuse_assignments_total", Unit::Count, "Attempts that were sent to workers"),
    ("shardfuse_attempts_failed_total", Unit::Count, "Attempts that workers gave up, by kind"),
    ("shardfuse_retries_total", Unit::Count, "Attempts made again, by what ended the one before"),
    ("shardfuse_lease_expiries_total", Unit::Count, "Leases whose worker was not heard of in time"),
    ("shardfuse_late_receipts_total", Unit::Count, "Reports of attempts that had ended, and of parts that were done"),
    ("shardfuse_workers_lost_total", Unit::Count, "Workers that were not heard of for a lease"),
    ("shardfuse_workers_stalled_total", Unit::Count, "Workers whose tasks stood still while others went on"),
    ("shardfuse_reconnects_total", Unit::Count, "Sessions of workers that were known"),
    ("shardfuse_reports_unknown_total", Unit::Count, "Reports of merges that do not run here"),
    ("shardfuse_sessions_refused_total", Unit::Count, "Sessions under the number of another worker"),
    ("shardfuse_workers_odd_total", Unit::Count, "Workers that computed other bytes than two others"),
    ("shardfuse_sessions_cut_total", Unit::Count, "Sessions closed since their worker did not read"),
    ("shardfuse_submissions_busy_total", Unit::Count, "Submissions refused since too many merges waited"),
    ("shardfuse_records_unreadable_total", Unit::Count, "Records of merges that were set aside at the start"),
    ("shardfuse_connections_dropped_total", Unit::Count, "Connections without a request that were dropped"),
    ("shardfuse_connections_refused_total", Unit::Count, "Connections refused since all others served requests"),
];

const GAUGES: &[(&str, Unit, &str)] = &[
    ("shardfuse_memory_budget_bytes", Unit::Bytes, "Memory that parts, factors and buffers may take"),
    ("shardfuse_memory_used_bytes", Unit::Bytes, "What of it is in use"),
    ("shardfuse_queue_depth", Unit::Count, "Parts that wait for memory"),
    ("shardfuse_parts_in_flight", Unit::Count, "Parts that have their memory: read, fused or put"),
    ("shardfuse_connected", Unit::Count, "Whether there is a session with the coordinator"),
    ("shardfuse_certificate_expiry_timestamp_seconds", Unit::Seconds, "When a certificate of this process expires"),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    ("shardfuse_part_seconds", "Time of a part in each stage"),
    ("shardfuse_store_http_seconds", "Time until an object store's answer begins"),
];
