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

/// The trace of a span, as 32 hex digits; none where nothing is traced.
pub fn id_of(span: &Span) -> Option<String> {
    let context = context_of(span);
    context.split('-').nth(1).filter(|id| id.len() == 32).map(str::to_owned)
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

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn trace_of(span: &Span) -> String {
        span.context().span().span_context().trace_id().to_string()
    }

    /// One process, but nothing goes from one span to the other than the text on the wire.
    #[test]
    fn a_task_belongs_to_the_trace_of_its_merge() {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let tracer = SdkTracerProvider::builder().build().tracer("test");
        let subscriber = tracing_subscriber::registry().with(tracing_opentelemetry::layer().with_tracer(tracer));
        tracing::subscriber::with_default(subscriber, || {
            let merge = tracing::info_span!("merge");
            let (task, other) = (tracing::info_span!("task"), tracing::info_span!("task"));
            let context = context_of(&merge);
            assert!(context.contains(&trace_of(&merge)), "{context}");
            assert_eq!(id_of(&merge), Some(trace_of(&merge)));
            adopt(&task, &context);
            assert_eq!(trace_of(&task), trace_of(&merge));
            for nothing in ["", "00-zz-1-1"] {
                adopt(&other, nothing);
                assert_ne!(trace_of(&other), trace_of(&merge), "{nothing:?}");
            }
        });
    }

    #[test]
    fn without_a_collector_nothing_is_sent() {
        assert_eq!(context_of(&tracing::info_span!("merge")), "");
    }
}
