//! The order of everything that happens in a run: each message on the network, each call to the store, each event that a
//! service tells, with its time and host. Two runs are the same if the digests of their traces are.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use shardfuse_coordinator::events;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::laws::{Fields, Laws};

/// Collects the trace, and shows the laws what services tell.
#[derive(Clone)]
pub struct Trace {
    laws: Arc<Laws>,
    digest: Arc<Mutex<blake3::Hasher>>,
    shown: bool,
}

/// The host that a span belongs to.
struct Host(String);

impl Trace {
    /// A trace, which is also shown on stderr if wanted.
    pub fn new(laws: Arc<Laws>, shown: bool) -> Trace {
        Trace { laws, digest: Arc::default(), shown }
    }

    /// The digest of what happened so far.
    pub fn digest(&self) -> String {
        self.digest.lock().unwrap().finalize().to_hex().to_string()
    }

    /// What is looked at.
    pub fn takes(metadata: &Metadata<'_>) -> bool {
        match metadata.target() {
            "turmoil" | "turmoil::sim" => metadata.is_span() || *metadata.level() == Level::TRACE,
            target => (target.starts_with("shardfuse") || target == "simulation") && *metadata.level() <= Level::DEBUG,
        }
    }
}

/// Fields as text.
struct Collect {
    message: String,
    fields: Fields,
}

impl Visit for Collect {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => _ = self.fields.insert(name.to_owned(), format!("{value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Trace {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() == "node"
            && let Some(span) = context.span(id)
        {
            let mut collect = Collect { message: String::new(), fields: Fields::new() };
            attributes.record(&mut collect);
            span.extensions_mut().insert(Host(collect.fields.remove("name").unwrap_or_default()));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut collect = Collect { message: String::new(), fields: Fields::new() };
        event.record(&mut collect);
        if collect.message.starts_with("step ") {
            return;
        }
        let scope = context.event_scope(event).into_iter().flatten();
        let host = scope.filter_map(|span| span.extensions().get::<Host>().map(|host| host.0.clone())).next();
        let host = host.unwrap_or_default();
        // Simulated, as all time here.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = now.as_millis();
        let (target, Collect { message, fields }) = (event.metadata().target(), collect);
        let line = format!("{at} {host} {target} {message} {fields:?}\n");
        self.digest.lock().unwrap().update(line.as_bytes());
        if self.shown {
            eprint!("{}", if line.len() > 400 { format!("{:.400}\n", line) } else { line });
        }
        if target.starts_with("shardfuse")
            && let Some(name) = fields.get("event")
        {
            match events::MergeEvent::parse(name) {
                Some(event) => self.laws.event(now, event, &fields),
                None => self.laws.breaks(format!("there is no event {name}")),
            }
        }
    }
}
