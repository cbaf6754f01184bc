//! One process's life: a coordinator and a worker, from reading the headers to the end, on a runtime of its own.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use shardfuse_coordinator::Options;
use shardfuse_coordinator::hub::{self, Farewell, Submission};
use shardfuse_coordinator::service::{Role, WorkService};
use shardfuse_merge::Result as Merged;
use shardfuse_merge::spec::MergeSpec;
use shardfuse_proto::v1::work_server::WorkServer;
use shardfuse_store::{Store, Stores};
use shardfuse_worker::Pipeline;
use shardfuse_worker::device::Device;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Endpoint, Server, Uri};
use tonic::{Request, Status};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It published, with so many pieces of its own, and so many that were there.
    Published { new: u64, kept: u64 },
    /// The output was this merge already.
    Finished,
}

const MEMORY: u64 = 8 << 20;

/// Merges, as the local command does.
pub async fn merge(store: Arc<dyn Store>, spec: MergeSpec, options: Options) -> Merged<End> {
    let stores = Arc::new(Stores::all(store));
    // A coordinator that lost its place learns it soon.
    let watch_every = Duration::from_millis(200);
    let Options { restart, force, single_coordinator } = options;
    let options = hub::Options { alone: true, workers: Some(1), watch_every, single_coordinator, ..Default::default() };
    let hub = hub::start(Arc::clone(&stores), None, options).await?;
    let submission =
        Submission { spec, restart, force, allow_no_change: false, priority: 0, device: None, verify_parts: None };
    let end = hub.follow(submission).await?.ended;
    let (client, server) = tokio::io::duplex(1 << 20);
    let trusted = |mut request: Request<()>| -> Result<Request<()>, Status> {
        request.extensions_mut().insert(Role::Trusted);
        Ok(request)
    };
    let service: InterceptedService<WorkServer<WorkService>, _> =
        InterceptedService::new(WorkService::new(hub.clone()).into_server(), trusted);
    let incoming = tokio_stream::once(Ok::<_, std::io::Error>(server));
    let server = tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    let mut client = Some(client);
    let connector = tower::service_fn(move |_: Uri| {
        let client = client.take();
        async move { client.map(TokioIo::new).ok_or_else(|| std::io::Error::other("closed")) }
    });
    let channel = Endpoint::try_from("http://local").unwrap().connect_with_connector(connector).await.unwrap();
    let pipeline = Pipeline::new(stores, MEMORY, 1, Device::Cpu).map_err(|f| f.error)?;
    let options = shardfuse_worker::Options { worker_id: 1, name: "local".into(), memory: MEMORY, slots: 2 };
    let worker = tokio::spawn(shardfuse_worker::run(channel, pipeline, options));
    let result = end.await.expect("the hub tells how a merge ended");
    hub.stop(Farewell::Leave("the merge has ended".into())).await;
    worker.abort();
    server.abort();
    Ok(match result? {
        Some(s) => End::Published { new: s.parts_new, kept: s.parts_kept },
        None => End::Finished,
    })
}

/// Options of a run without flags.
pub fn plain() -> Options {
    Options { single_coordinator: true, ..Options::default() }
}

/// A life that may end early: what the merge returned, or `None` if `killed` came first. Everything that it still had
/// under way ends with it.
pub fn life(merge: impl Future<Output = Merged<End>>, killed: impl Future<Output = ()>) -> Option<Merged<End>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = merge => Some(ended),
            () = killed => None,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
    ended
}
