//! A merge on one machine: coordinator and worker in one process, over an in-memory duplex channel. The same code as on
//! a fleet; no port is opened.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use shardfuse_coordinator::admit::Ready;
use shardfuse_coordinator::driver::{self, Fleet, Input};
use shardfuse_coordinator::service::WorkService;
use shardfuse_coordinator::{Progress, Summary};
use shardfuse_merge::{Error, Result};
use shardfuse_store::Stores;
use shardfuse_worker::device::{CPU_CLASS, Device};
use shardfuse_worker::{Failure, Options, Pipeline};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint, Server, Uri};

use crate::report::internal;

/// Inputs that may wait for the driver.
const MAILBOX: usize = 256;
/// The in-memory channel's buffer in bytes.
const DUPLEX: usize = 1 << 20;
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Runs an admitted merge with one worker a device. The devices are of one class.
pub async fn run(
    ready: Ready,
    stores: Arc<Stores>,
    memory: u64,
    threads: usize,
    devices: Vec<Device>,
    progress: watch::Sender<Progress>,
) -> Result<Summary> {
    let class = devices.first().map_or(CPU_CLASS, Device::class).to_owned();
    let part_size = ready.plan.spec.part_size;
    let (mailbox, inputs) = mpsc::channel(MAILBOX);
    let service = WorkService::new(mailbox.clone(), &class, HEARTBEAT);
    let (clients, servers): (Vec<_>, Vec<_>) = devices.iter().map(|_| tokio::io::duplex(DUPLEX)).unzip();
    let incoming = tokio_stream::iter(servers.into_iter().map(Ok::<_, std::io::Error>));
    let server = tokio::spawn(Server::builder().add_service(service.into_server()).serve_with_incoming(incoming));

    // Each device has a pipeline of its own, and an even share.
    let (memory, threads) = (memory / devices.len() as u64, (threads / devices.len()).max(1));
    // Enough tasks that their parts fill the budget, so that reading, fusing and writing overlap.
    let slots = (memory / (8 * part_size)).clamp(2, 16) as u32;
    let mut workers = JoinSet::new();
    for ((number, device), client) in (1..).zip(devices).zip(clients) {
        let pipeline = Pipeline::new(Arc::clone(&stores), memory, threads, device).map_err(|f| f.error)?;
        let options = Options { worker_id: number, name: format!("local-{number}"), memory, slots };
        workers.spawn(shardfuse_worker::run(connect(client).await?, pipeline, options));
    }
    tokio::spawn(cancel_on_signal(mailbox.clone()));

    let merge = driver::run(ready, Fleet { device_class: &class, alone: true }, inputs, mailbox, progress);
    tokio::pin!(merge);
    let result = loop {
        tokio::select! {
            result = &mut merge => break result,
            Some(ended) = workers.join_next() => match ended {
                // The driver stops its workers when it ends: its own result says why.
                Ok(Ok(_)) => break (&mut merge).await,
                // The others go on with what it had.
                Ok(Err(failure)) if !workers.is_empty() => warn_of(&failure),
                Ok(Err(failure)) => break Err(failure.error),
                Err(e) => break Err(internal(format!("a worker ended: {e}"))),
            },
        }
    };
    server.abort();
    result
}

fn warn_of(failure: &Failure) {
    tracing::warn!("a worker left: {}", failure.error.message());
}

/// A channel over one in-memory stream.
async fn connect(stream: tokio::io::DuplexStream) -> Result<Channel> {
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take();
        async move { stream.map(TokioIo::new).ok_or_else(|| std::io::Error::other("the in-memory channel is closed")) }
    });
    let broken = |e: &dyn std::fmt::Display| -> Error { internal(format!("the in-memory channel: {e}")) };
    Endpoint::try_from("http://local")
        .map_err(|e| broken(&e))?
        .connect_with_connector(connector)
        .await
        .map_err(|e| broken(&e))
}

/// The first SIGINT or SIGTERM stops in order; the second ends the process at once.
async fn cancel_on_signal(mailbox: mpsc::Sender<Input>) {
    if signal().await {
        eprintln!("stopping; what is finished stays (once more: stop at once)");
        let _ = mailbox.send(Input::Cancel).await;
        if signal().await {
            std::process::exit(4);
        }
    }
}

#[cfg(unix)]
async fn signal() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return tokio::signal::ctrl_c().await.is_ok() };
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.is_ok(),
        terminated = terminate.recv() => terminated.is_some(),
    }
}

#[cfg(not(unix))]
async fn signal() -> bool {
    tokio::signal::ctrl_c().await.is_ok()
}
