//! Traces over OTLP (gRPC), where the environment names a collector by OpenTelemetry's own variables.

use opentelemetry::KeyValue;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::version::VERSION;

/// The variables; one of them must be set.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Sends spans to the collector; `None` if no collector is named.
pub fn provider() -> Result<Option<SdkTracerProvider>, ExporterBuildError> {
    if !ENDPOINTS.iter().any(|name| std::env::var(name).is_ok_and(|value| !value.is_empty())) {
        return Ok(None);
    }
    let exporter = SpanExporter::builder().with_tonic().build()?;
    // A merge is one trace across processes: its context travels with each assignment.
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    // Which process it is, OTEL_RESOURCE_ATTRIBUTES says: service.instance.id.
    let version = KeyValue::new("service.version", VERSION);
    let resource = Resource::builder().with_service_name("shardfuse").with_attribute(version).build();
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
}
