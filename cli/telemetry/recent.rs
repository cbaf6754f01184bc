//! The last warnings and errors, for the status page.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// How many are kept.
const KEPT: usize = 30;
/// Bytes of one message that are kept.
const LENGTH: usize = 500;

static RECENT: Mutex<VecDeque<Entry>> = Mutex::new(VecDeque::new());

/// Something that went wrong.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// In which merge, where that is known.
    pub merge: Option<String>,
    /// What.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The last of them, the oldest first.
pub fn all() -> Vec<Entry> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

/// Keeps our own warnings and errors.
#[derive(Debug, Default)]
pub struct Recent;

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        if *meta.level() > Level::WARN || !meta.target().starts_with("shardfuse") {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        let mut message = said.message;
        message.push_str(&said.fields);
        if let Some((cut, _)) = message.char_indices().nth(LENGTH) {
            message.truncate(cut);
        }
        let mut recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(Entry { at: Instant::now(), merge: said.merge, message, hint: said.hint });
    }
}

/// An event's fields as text.
#[derive(Default)]
struct Said {
    message: String,
    merge: Option<String>,
    hint: Option<String>,
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "merge" => self.merge = Some(format!("{value:?}").trim_matches('"').to_owned()),
            "hint" => {
                self.hint = Some(format!("{value:?}").trim_matches('"').to_owned()).filter(|hint| !hint.is_empty())
            }
            name => self.fields.push_str(&format!(" {name}={value:?}")),
        }
    }
}
