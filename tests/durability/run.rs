//! One process's life: a coordinator and a worker, from reading the headers to the end, on a runtime of its own.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use shardfuse_coordinator::driver::{self, Fleet};
use shardfuse_coordinator::service::WorkService;
use shardfuse_coordinator::{Admitted, Options, Progress, admit, inspect};
use shardfuse_merge::Result;
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::spec::MergeSpec;
use shardfuse_store::{Store, Stores};
use shardfuse_worker::Pipeline;
use shardfuse_worker::device::{CPU_CLASS, cpu::Kernels};
use tokio::sync::{mpsc, watch};
use tonic::transport::{Endpoint, Server, Uri};

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
pub async fn merge(store: Arc<dyn Store>, spec: MergeSpec, options: Options) -> Result<End> {
    let stores = Arc::new(Stores::all(store));
    let inventory = inspect(&stores, &spec).await?;
    let (plan, _) = Plan::new(spec, &inventory)?;
    let ready = match admit(Arc::clone(&stores), plan, options).await? {
        Admitted::Ready(ready) => *ready,
        Admitted::Finished(_) => return Ok(End::Finished),
    };
    let (mailbox, inputs) = mpsc::channel(256);
    let service = WorkService::new(mailbox.clone(), CPU_CLASS, Duration::from_secs(5));
    let (client, server) = tokio::io::duplex(1 << 20);
    let incoming = tokio_stream::once(Ok::<_, std::io::Error>(server));
    let server = tokio::spawn(Server::builder().add_service(service.into_server()).serve_with_incoming(incoming));
    let mut client = Some(client);
    let connector = tower::service_fn(move |_: Uri| {
        let client = client.take();
        async move { client.map(TokioIo::new).ok_or_else(|| std::io::Error::other("closed")) }
    });
    let channel = Endpoint::try_from("http://local").unwrap().connect_with_connector(connector).await.unwrap();
    let pipeline = Pipeline::new(stores, MEMORY, 1, Kernels::best()).map_err(|f| f.error)?;
    let options = shardfuse_worker::Options { worker_id: 1, name: "local".into(), memory: MEMORY, slots: 2 };
    let worker = tokio::spawn(shardfuse_worker::run(channel, pipeline, options));
    let (progress, _) = watch::channel(Progress::default());
    let fleet = Fleet { device_class: CPU_CLASS, alone: true };
    let result = driver::run(ready, fleet, inputs, mailbox, progress).await;
    worker.abort();
    server.abort();
    result.map(|s| End::Published { new: s.pieces_new, kept: s.pieces_kept })
}

/// Options of a run without flags.
pub fn plain() -> Options {
    Options { single_coordinator: true, ..Options::default() }
}

/// A life that may end early: what the merge returned, or `None` if `killed` came first. Everything that it still had
/// under way ends with it.
pub fn life(merge: impl Future<Output = Result<End>>, killed: impl Future<Output = ()>) -> Option<Result<End>> {
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
