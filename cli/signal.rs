//! SIGINT, SIGTERM and the notice of a spot machine.

use shardfuse_merge::Kind;
use shardfuse_worker::spot::Notice;

use crate::report;

/// Waits for one of them. False if the process cannot listen to them.
#[cfg(unix)]
pub async fn received() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return tokio::signal::ctrl_c().await.is_ok() };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.is_ok(),
        terminated = terminate.recv() => terminated.is_some(),
    }
}

/// Waits for an interrupt. False if the process cannot listen to it.
#[cfg(not(unix))]
pub async fn received() -> bool {
    tokio::signal::ctrl_c().await.is_ok()
}

/// From here on, the next signal ends the process at once.
pub fn next_ends_at_once() {
    tokio::spawn(async {
        if received().await {
            std::process::exit(report::exit_code(Kind::Interrupted).into());
        }
    });
}

/// Waits until the cloud announces that it takes this machine back; forever without a notice to wait for.
pub async fn taken_back(notice: Option<Notice>) {
    match notice {
        Some(notice) if notice.given().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}
