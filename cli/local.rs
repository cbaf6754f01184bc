//! A merge on one machine: hub and worker in one process, over an in-memory duplex channel. The same code as on a fleet;
//! no port is opened.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use shardfuse_coordinator::Summary;
use shardfuse_coordinator::hub::{self, Farewell, Submission};
use shardfuse_coordinator::owner::Owning;
use shardfuse_coordinator::registry::MergeId;
use shardfuse_coordinator::service::{Role, WorkService};
use shardfuse_merge::plan::report::Report;
use shardfuse_merge::{Error, Result};
use shardfuse_proto::v1::work_server::WorkServer;
use shardfuse_store::Stores;
use shardfuse_worker::device::Device;
use shardfuse_worker::{Options, Pipeline};
use tokio::task::JoinSet;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Status};
use tracing::warn;

use crate::progress::{self, Show};
use crate::report::internal;
use crate::settings::machine::{Budget, Share};
use crate::signal;
use crate::text::Text;
use crate::version::VERSION;

/// The in-memory channel's buffer in bytes.
const DUPLEX: usize = 1 << 20;

/// What this machine gives to a merge.
pub struct Machine {
    /// The stores.
    pub stores: Arc<Stores>,
    /// The budget of memory and threads.
    pub budget: Budget,
    /// The devices, of one class. Each gets a worker.
    pub devices: Vec<Device>,
    /// What is done about another process that works on the output.
    pub owning: Owning,
}

/// How a merge ended.
pub struct Outcome {
    /// What planning found, if it came to that.
    pub report: Option<Box<Report>>,
    /// What this run did; `None` if the output was this very merge already.
    pub summary: Option<Box<Summary>>,
}

/// Submits a merge to a hub of its own, and runs it with one worker a device. `planned` hears what planning found.
pub async fn run(
    submission: Submission,
    machine: Machine,
    planned: impl FnOnce(&Report),
    show: Show,
) -> Result<Outcome> {
    let Machine { stores, budget, devices, owning } = machine;
    let part_size = submission.spec.part_size;
    let options = hub::Options {
        alone: true,
        owning,
        workers: u32::try_from(devices.len()).ok(),
        single_coordinator: true,
        version: VERSION,
        ..hub::Options::default()
    };
    let hub = hub::start(Arc::clone(&stores), None, options).await?;
    let followed = hub.follow(submission).await?;
    tokio::spawn(cancel_on_signal(hub.clone(), followed.id));
    let shown = tokio::spawn(progress::follow(followed.views.clone(), show));

    let Share { memory, threads, slots } = budget.share(devices.len(), part_size, None);
    let mut workers = JoinSet::new();
    for (number, device) in (1..).zip(devices) {
        let pipeline = Pipeline::new(Arc::clone(&stores), memory, threads, device).map_err(|f| f.error)?;
        let options = Options { worker_id: number, name: format!("local-{number}"), memory, slots };
        workers.spawn(shardfuse_worker::run(serve(hub.clone()).await?, pipeline, options));
    }
    let report = async { followed.planned.await.ok().inspect(|report| planned(report)) };
    let ended = async move { followed.ended.await.unwrap_or_else(|_| Err(internal("the merge broke off"))) };
    let to_the_end = async {
        let result = until_ended(ended, workers).await;
        hub.stop(Farewell::Leave("the merge has ended".into())).await;
        result
    };
    let (report, result) = tokio::join!(report, to_the_end);
    // What is shown last is no part of the merge.
    let _ = shown.await;
    Ok(Outcome { report, summary: result? })
}

/// The merge's end, or that of its last worker, whichever comes first.
async fn until_ended<T>(ended: impl Future<Output = Result<T>>, mut workers: JoinSet<Result<String>>) -> Result<T> {
    tokio::pin!(ended);
    loop {
        tokio::select! {
            result = &mut ended => return result,
            Some(left) = workers.join_next() => match left {
                // A worker that was told to leave leaves the last word to the merge.
                Ok(Ok(_)) => return ended.await,
                // The others go on with what it had.
                Ok(Err(error)) if !workers.is_empty() => warn!("a worker left: {}", error.message()),
                Ok(Err(error)) => return Err(error),
                Err(e) => return Err(internal(format!("a worker ended: {e}"))),
            },
        }
    }
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
        Text::of("stopping; what is finished stays (once more: stop at once)").say();
        signal::next_ends_at_once();
        // The merge's end says how it went.
        let _ = hub.cancel(merge, false).await;
    }
}
