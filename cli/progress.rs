//! Progress on stderr: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use shardfuse_coordinator::Progress;
use shardfuse_coordinator::hub::View;
use tokio::sync::watch;

use crate::size;

/// Between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows progress until the sender is dropped.
pub async fn show(mut progress: watch::Receiver<Progress>, quiet: bool) {
    if quiet {
        return;
    }
    if std::io::stderr().is_terminal() { bar(&mut progress).await } else { lines(&mut progress).await }
}

/// Shows the progress of a merge of this process until it has ended.
pub async fn follow(mut views: watch::Receiver<View>, quiet: bool) {
    let (shown, receive) = watch::channel(Progress::default());
    let show = tokio::spawn(show(receive, quiet));
    loop {
        let (progress, ended) = {
            let view = views.borrow_and_update();
            (view.progress.clone(), view.stage.has_ended())
        };
        shown.send_replace(progress);
        if ended || views.changed().await.is_err() {
            break;
        }
    }
    drop(shown);
    // What is shown last is no part of the merge.
    let _ = show.await;
}

async fn bar(progress: &mut watch::Receiver<Progress>) {
    let bar = ProgressBar::no_length();
    // The template is a constant; a mistake in it would show in the first run.
    if let Ok(style) =
        ProgressStyle::with_template("{msg:12} [{bar:32}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    while progress.changed().await.is_ok() {
        let p = progress.borrow_and_update().clone();
        if p.bytes_total == 0 {
            // It is not planned yet.
            continue;
        }
        bar.set_length(p.bytes_total);
        bar.set_position(p.bytes_done);
        bar.set_message(if p.publishing {
            "publishing".into()
        } else {
            format!("{}/{} tasks", p.tasks_done, p.tasks_total)
        });
    }
    bar.finish_and_clear();
}

async fn lines(progress: &mut watch::Receiver<Progress>) {
    let mut first = None;
    let mut last = Instant::now();
    while progress.changed().await.is_ok() {
        let p = progress.borrow_and_update().clone();
        if p.bytes_total == 0 {
            // It is not planned yet.
            continue;
        }
        let (base, started) = *first.get_or_insert((p.bytes_done, Instant::now()));
        if last.elapsed() < LINE_EVERY {
            continue;
        }
        last = Instant::now();
        let seconds = started.elapsed().as_secs_f64();
        let rate = (p.bytes_done - base) as f64 / seconds;
        let left = if rate > 0.0 {
            format!("{:.0} s left", (p.bytes_total - p.bytes_done) as f64 / rate)
        } else {
            "time left unknown".into()
        };
        eprintln!(
            "{} of {}, {}/{} tasks, {}/s, {left}",
            size::show(p.bytes_done),
            size::show(p.bytes_total),
            p.tasks_done,
            p.tasks_total,
            size::show(rate as u64)
        );
    }
}
