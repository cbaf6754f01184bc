//! What the process tells of itself: log lines on stderr, traces over OTLP, metrics for Prometheus.

mod level;
mod metrics;
pub mod recent;
mod traces;

use std::fmt::{self, Debug};
use std::io::IsTerminal as _;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, filter};

use crate::args::Format;
use crate::progress::screen::Screen;
use crate::text::escape;

pub use metrics::recorder;

/// What must be ended in order.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Starts logging and, where the environment names a collector, tracing. Must run within a tokio runtime. `serves` says that the
/// process serves others or works for them, so that its log tells what it does.
pub fn start(format: Format, serves: bool) -> Telemetry {
    let wanted = level::wanted(|name| std::env::var(name).ok(), serves);
    // Colours are for a terminal; a file or a pipe gets plain text, and so does a terminal if NO_COLOR is set.
    let colours = std::io::stderr().is_terminal() && std::env::var("NO_COLOR").map_or(true, |v| v.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(Screen).with_ansi(colours);
    let lines = match format {
        Format::Text => lines.fmt_fields(debug_fn(field).delimited(" ")).with_filter(wanted).boxed(),
        Format::Json => lines.json().flatten_event(true).with_span_list(true).with_filter(wanted).boxed(),
    };
    let (traces, refused) = match traces::provider() {
        Ok(provider) => (provider, None),
        Err(e) => (None, Some(e)),
    };
    let spans = traces.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("shardfuse"))
            .with_filter(filter::filter_fn(|meta| meta.is_span() && meta.target().starts_with("shardfuse")))
    });
    // Starting twice in one process is not possible: main calls this once.
    let _ = tracing_subscriber::registry().with(lines).with(spans).with(recent::Recent).try_init();
    if let Some(error) = refused {
        tracing::warn!(%error, "traces are not sent");
    }
    Telemetry { traces }
}

/// A field of a log line. Values come from files and other machines.
fn field(to: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let value = format!("{value:?}");
    match field.name() {
        // Where in the code of a library a line of its own came from.
        name if name.starts_with("log.") => Ok(()),
        "message" => write!(to, "{}", escape(&value)),
        name => write!(to, "{name}={}", escape(&value)),
    }
}

impl Telemetry {
    /// Sends what is still to be sent.
    pub fn finish(self) {
        if let Some(Err(error)) = self.traces.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}
