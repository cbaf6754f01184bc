//! A bar on a terminal, and a line for each worker below it.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::watch;

use super::screen;
use super::state::State;
use super::words::Words;

/// Between two looks at the clock: the rate of a merge that stands still goes down too.
const TICK: Duration = Duration::from_millis(500);
/// Lines of workers. A terminal has some twenty lines in all.
const WORKERS: usize = 16;

/// Shows a bar until the sender is dropped.
pub async fn show(states: &mut watch::Receiver<State>) {
    let bars = screen::bars();
    let bar = bars.add(ProgressBar::new(0));
    bar.set_style(style("{wide_bar} {msg}").progress_chars("=> "));
    let (mut lines, mut words) = (Vec::<ProgressBar>::new(), Words::default());
    loop {
        let open = match tokio::time::timeout(TICK, states.changed()).await {
            Ok(changed) => changed.is_ok(),
            Err(_) => true,
        };
        if !open {
            break;
        }
        let (now, state) = (Instant::now(), states.borrow_and_update().clone());
        if state.progress.bytes_total == 0 {
            // It is not planned yet.
            continue;
        }
        words.note(now, &state);
        bar.set_length(state.progress.bytes_total);
        bar.set_position(state.progress.bytes_done);
        bar.set_message(words.merge(now, &state));
        let mut texts = words.workers(now, &state);
        if texts.len() > WORKERS {
            let more = texts.split_off(WORKERS - 1).len();
            texts.push(format!("  and {more} more workers"));
        }
        while lines.len() < texts.len() {
            let line = bars.add(ProgressBar::new(0));
            line.set_style(style("{wide_msg}"));
            lines.push(line);
        }
        lines.drain(texts.len()..).for_each(|line| line.finish_and_clear());
        lines.iter().zip(texts).for_each(|(line, text)| line.set_message(text));
    }
    lines.iter().for_each(ProgressBar::finish_and_clear);
    bar.finish_and_clear();
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; a mistake in one would show in the first run.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
