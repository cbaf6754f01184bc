//! Plain lines for a person, where stderr is no terminal.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::state::State;
use super::words::Words;
use crate::text::Text;

/// Between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// Prints a line from time to time until the sender is dropped, and with it the worker that is the slowest.
pub async fn show(states: &mut watch::Receiver<State>) {
    let (mut words, mut last) = (Words::default(), Instant::now());
    while states.changed().await.is_ok() {
        let (now, state) = (Instant::now(), states.borrow_and_update().clone());
        if state.progress.bytes_total == 0 {
            // It is not planned yet.
            continue;
        }
        words.note(now, &state);
        if now.saturating_duration_since(last) < EVERY {
            continue;
        }
        last = now;
        let p = &state.progress;
        let mut text = Text::of(format_args!("{}, {}/{} tasks", words.merge(now, &state), p.tasks_done, p.tasks_total));
        let slowest = words.workers(now, &state).into_iter().find(|line| line.ends_with("slowest"));
        slowest.into_iter().for_each(|line| text.line(line));
        text.say();
    }
}
