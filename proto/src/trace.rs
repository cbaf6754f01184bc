//! The context of a trace on the wire, in the form of W3C's `traceparent`: a merge is one trace across processes.
//!
//! Without a collector both functions do nothing.

use std::collections::HashMap;

use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const HEADER: &str = "traceparent";

/// The context of a span; empty where nothing is traced.
pub fn context_of(span: &Span) -> String {
    let mut carrier: HashMap<String, String> = HashMap::new();
    opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&span.context(), &mut carrier)
    });
    carrier.remove(HEADER).unwrap_or_default()
}

/// Makes a span the child of a context that came over the wire. What is no context is ignored.
pub fn adopt(span: &Span, context: &str) {
    if context.is_empty() {
        return;
    }
    let carrier = HashMap::from([(HEADER.to_owned(), context.to_owned())]);
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&carrier));
    // A span that is not recorded has no parent to set.
    let _ = span.set_parent(parent);
}
