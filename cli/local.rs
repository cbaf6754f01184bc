//! A merge on one machine: hub and worker in one process, over an in-memory duplex channel. The same code as on a fleet;
//! no port is opened.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use shardfuse_coordinator::admit::Ready;
use shardfuse_coordinator::hub::{self, Adoption, Farewell};
use shardfuse_coordinator::registry::MergeId;
use shardfuse_coordinator::service::{Role, WorkService};
use shardfuse_coordinator::{Progress, Summary};
use shardfuse_merge::{Error, Result};
use shardfuse_proto::v1::work_server::WorkServer;
use shardfuse_store::Stores;
use shardfuse_worker::device::{CPU_CLASS, Device};
use shardfuse_worker::{Options, Pipeline};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Status};
use tracing::warn;

use crate::report::internal;
use crate::settings::machine::{Budget, Share};
use crate::signal;

/// The in-memory channel's buffer in bytes.
const DUPLEX: usize = 1 << 20;

/// Runs an admitted merge with one worker a device. The devices are of one class.
pub async fn run(
    ready: Ready,
    stores: Arc<Stores>,
    budget: Budget,
    devices: Vec<Device>,
    progress: watch::Sender<Progress>,
) -> Result<Summary> {
    let part_size = ready.plan.spec.part_size;
    let options = hub::Options { alone: true, single_coordinator: true, ..hub::Options::default() };
    let hub = hub::start(Arc::clone(&stores), None, options).await?;
    let adoption =
        Adoption { ready, device_class: devices.first().map_or(CPU_CLASS, Device::class).to_owned(), progress };
    let (merge, end) = hub.adopt(adoption).await?;

    let Share { memory, threads, slots } = budget.share(devices.len(), part_size, None);
    let mut workers = JoinSet::new();
    for (number, device) in (1..).zip(devices) {
        let pipeline = Pipeline::new(Arc::clone(&stores), memory, threads, device).map_err(|f| f.error)?;
        let options = Options { worker_id: number, name: format!("local-{number}"), memory, slots };
        workers.spawn(shardfuse_worker::run(serve(hub.clone()).await?, pipeline, options));
    }
    tokio::spawn(cancel_on_signal(hub.clone(), merge));

    let end = async move { end.await.unwrap_or_else(|_| Err(internal("the merge broke off"))) };
    tokio::pin!(end);
    let result = loop {
        tokio::select! {
            result = &mut end => break result,
            Some(ended) = workers.join_next() => match ended {
                // A worker that was told to leave leaves the last word to the merge.
                Ok(Ok(_)) => break end.await,
                // The others go on with what it had.
                Ok(Err(error)) if !workers.is_empty() => warn!("a worker left: {}", error.message()),
                Ok(Err(error)) => break Err(error),
                Err(e) => break Err(internal(format!("a worker ended: {e}"))),
            },
        }
    };
    hub.stop(Farewell::Leave("the merge has ended".into())).await;
    result
}

/// Serves a hub's workers on one in-memory stream, and connects to it.
pub async fn serve(hub: hub::Handle) -> Result<Channel> {
    let (client, server) = tokio::io::duplex(DUPLEX);
    let service: InterceptedService<WorkServer<WorkService>, _> =
        InterceptedService::new(WorkService::new(hub).into_server(), trusted);
    let incoming = tokio_stream::once(Ok::<_, std::io::Error>(server));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    connect(client).await
}

/// The other end is this process.
fn trusted(mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
    request.extensions_mut().insert(Role::Trusted);
    Ok(request)
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
async fn cancel_on_signal(hub: hub::Handle, merge: MergeId) {
    if signal::received().await {
        eprintln!("stopping; what is finished stays (once more: stop at once)");
        signal::next_ends_at_once();
        // The merge's end says how it went.
        let _ = hub.cancel(merge, false).await;
    }
}
