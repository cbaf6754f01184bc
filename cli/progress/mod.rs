//! Progress on stderr: a bar on a terminal, plain lines elsewhere, or JSON for programs.

mod bar;
mod json;
mod lines;
pub mod pace;
pub mod screen;
mod state;
mod words;

use std::io::IsTerminal;

use shardfuse_coordinator::hub::View;
use tokio::sync::watch;

use crate::args::{Format, Global};
pub use state::{State, Worker};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Not at all.
    Nothing,
    /// To a person.
    Text,
    /// To a program.
    Json,
}

impl Show {
    /// As the flags say.
    pub fn of(global: &Global) -> Show {
        match (global.quiet, global.progress) {
            (true, _) => Show::Nothing,
            (false, Format::Text) => Show::Text,
            (false, Format::Json) => Show::Json,
        }
    }
}

/// Shows progress until the sender is dropped.
pub async fn show(mut progress: watch::Receiver<State>, how: Show) {
    match how {
        Show::Nothing => {}
        Show::Text if std::io::stderr().is_terminal() => bar::show(&mut progress).await,
        Show::Text => lines::show(&mut progress).await,
        Show::Json => json::show(&mut progress).await,
    }
}

/// Shows the progress of a merge of this process until it has ended.
pub async fn follow(mut views: watch::Receiver<View>, how: Show) {
    let (shown, receive) = watch::channel(State::default());
    let show = tokio::spawn(show(receive, how));
    loop {
        let (progress, ended) = {
            let view = views.borrow_and_update();
            (view.progress.clone(), view.stage.has_ended())
        };
        shown.send_replace(progress.into());
        if ended || views.changed().await.is_err() {
            break;
        }
    }
    drop(shown);
    // What is shown last is no part of the merge.
    let _ = show.await;
}
