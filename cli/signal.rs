//! SIGINT and SIGTERM.

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
