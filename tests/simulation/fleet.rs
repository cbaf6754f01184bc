//! The hosts of a run: coordinators, workers, and somebody who submits a merge. Each is the real service, as the binary
//! puts it together, over the simulated network and the simulated store.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use shardfuse_coordinator::hub::{self, Farewell};
use shardfuse_coordinator::registry::Registry;
use shardfuse_coordinator::service::{MergesService, Role, WorkService};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1::merges_client::MergesClient;
use shardfuse_proto::v1::merges_server::MergesServer;
use shardfuse_proto::v1::work_server::WorkServer;
use shardfuse_proto::v1::{self, MergeState};
use shardfuse_store::Allow;
use shardfuse_worker::device::Device;
use shardfuse_worker::{Options, Pipeline};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Status};
use turmoil::net::{TcpListener, TcpStream};

use crate::bucket::Bucket;
use crate::laws::Laws;
use crate::model;

/// The two coordinators. The second is there from the moment on at which the service moves to it.
pub const COORDINATORS: [&str; 2] = ["coordinator-0", "coordinator-1"];
pub const CLIENT: &str = "client";

const PORT: u16 = 7070;
/// As the binary has them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const PING: Duration = Duration::from_secs(20);
/// A process that ended is begun again after this time.
const RESTART: Duration = Duration::from_secs(2);
/// How long somebody waits for an answer.
const ANSWER: Duration = Duration::from_secs(20);
const MEMORY: u64 = 8 << 20;
const SLOTS: u32 = 2;
const GRACE: Duration = Duration::from_secs(10);

/// What the hosts share beside network and store: what an operator or an orchestrator would arrange.
pub struct Fleet {
    pub bucket: Arc<Bucket>,
    pub laws: Arc<Laws>,
    /// The coordinator that the service's name leads to.
    service: AtomicUsize,
    /// Numbers processes.
    processes: AtomicU64,
    /// The worker that runs on each host.
    workers: Mutex<BTreeMap<String, u64>>,
    leave: BTreeMap<String, watch::Sender<u64>>,
    stop: watch::Sender<u64>,
    /// The merge is done, and somebody was told so.
    told: watch::Sender<bool>,
}

impl Fleet {
    pub fn new(bucket: Arc<Bucket>, laws: Arc<Laws>, workers: u64) -> Arc<Fleet> {
        let leave = (0..workers).map(|i| (format!("worker-{i}"), watch::Sender::new(0))).collect();
        Arc::new(Fleet {
            bucket,
            laws,
            service: AtomicUsize::new(0),
            processes: AtomicU64::new(0),
            workers: Mutex::default(),
            leave,
            stop: watch::Sender::new(0),
            told: watch::Sender::new(false),
        })
    }

    /// The hosts that work.
    pub fn hosts(&self) -> Vec<String> {
        self.leave.keys().cloned().collect()
    }

    /// The coordinator that the service's name leads to.
    pub fn coordinator(&self) -> &'static str {
        COORDINATORS[self.service.load(Ordering::Relaxed)]
    }

    /// Leads the service's name to the second coordinator, which begins.
    pub fn move_service(&self) {
        self.service.store(1, Ordering::Relaxed);
    }

    /// The worker on a host.
    pub fn worker_on(&self, host: &str) -> Option<u64> {
        self.workers.lock().unwrap().get(host).copied()
    }

    /// Tells the worker on a host to leave.
    pub fn tell_to_leave(&self, host: &str) {
        self.leave[host].send_modify(|told| *told += 1);
    }

    /// Tells the coordinator to stop.
    pub fn tell_to_stop(&self) {
        self.stop.send_modify(|told| *told += 1);
    }

    pub fn is_done(&self) -> bool {
        *self.told.borrow()
    }

    /// A channel to the coordinator.
    async fn connect(self: Arc<Self>) -> Result<Channel> {
        let host = self.coordinator();
        let connector =
            tower::service_fn(move |_: Uri| async move { TcpStream::connect((host, PORT)).await.map(TokioIo::new) });
        let endpoint = Endpoint::from_static("http://coordinator")
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true);
        let unreachable = |e| Error::new(Kind::Io, format!("{host} cannot be reached: {e}"));
        endpoint.connect_with_connector(connector).await.map_err(unreachable)
    }

    /// A coordinator on a host, and when it was told to stop, the next one.
    pub async fn coordinate(self: Arc<Self>, number: usize) -> turmoil::Result {
        while self.service.load(Ordering::Relaxed) < number {
            sleep(RESTART).await;
        }
        loop {
            self.coordinate_once(number).await?;
            sleep(RESTART).await;
        }
    }

    async fn coordinate_once(&self, number: usize) -> turmoil::Result {
        let mut stop = self.stop.subscribe();
        let stores = self.bucket.stores(COORDINATORS[number]);
        let registry = Registry::new(Arc::clone(&stores), &model::at("state"))?;
        let hub = loop {
            match hub::start(Arc::clone(&stores), Some(registry.clone()), hub::Options::default()).await {
                Ok(hub) => break hub,
                Err(e) => tracing::debug!(target: "simulation", error = %e, "the coordinator did not start"),
            }
            sleep(RESTART).await;
        };
        let work: InterceptedService<WorkServer<WorkService>, _> =
            InterceptedService::new(WorkService::new(hub.clone()).into_server(), trusted);
        let merges: InterceptedService<MergesServer<MergesService>, _> = InterceptedService::new(
            MergesService::new(hub.clone(), stores, Allow::everything()).into_server(),
            trusted,
        );
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        let incoming = futures::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| Accepted(stream));
            Some((accepted, listener))
        });
        let (ending, ended) = oneshot::channel();
        let told = async move {
            let _ = stop.changed().await;
            hub.stop(Farewell::ComeBack).await;
            let _ = ending.send(());
        };
        let serving = Server::builder()
            .http2_keepalive_interval(Some(PING))
            .http2_keepalive_timeout(Some(PING))
            .add_service(work)
            .add_service(merges)
            .serve_with_incoming_shutdown(incoming, told);
        let overdue = async {
            let _ = ended.await;
            sleep(GRACE).await;
        };
        tokio::select! {
            served = serving => served?,
            () = overdue => {}
        }
        Ok(())
    }

    /// A worker on a host, and when it has left, the next one.
    pub async fn work(self: Arc<Self>, host: String) -> turmoil::Result {
        let stores = self.bucket.stores(&host);
        let mut leave = self.leave[&host].subscribe();
        loop {
            let worker_id = 1 + self.processes.fetch_add(1, Ordering::Relaxed);
            self.workers.lock().unwrap().insert(host.clone(), worker_id);
            let pipeline = Pipeline::new(Arc::clone(&stores), MEMORY, 0, Device::Cpu).map_err(|f| f.error)?;
            let options = Options { worker_id, name: host.clone(), memory: MEMORY, slots: SLOTS };
            let fleet = Arc::clone(&self);
            let connect = move || Arc::clone(&fleet).connect();
            let told = async {
                match leave.changed().await {
                    Ok(()) => GRACE,
                    Err(_) => std::future::pending().await,
                }
            };
            if let Err(e) = shardfuse_worker::serve(connect, pipeline, options, told).await {
                self.laws.breaks(format!("the worker on {host} ended: {e}"));
            }
            sleep(RESTART).await;
        }
    }

    /// Submits the merge and asks until it is done. One that failed is submitted again.
    pub async fn submit(self: Arc<Self>) -> turmoil::Result {
        loop {
            match timeout(ANSWER, self.ask()).await {
                Ok(Ok(MergeState::Done)) => break,
                Ok(Ok(state)) => tracing::debug!(target: "simulation", ?state, "the merge stands"),
                Ok(Err(e)) => tracing::debug!(target: "simulation", error = %e, "no answer"),
                Err(_) => tracing::debug!(target: "simulation", "no answer in time"),
            }
            sleep(RESTART).await;
        }
        self.told.send_replace(true);
        Ok(())
    }

    async fn ask(self: &Arc<Self>) -> Result<MergeState> {
        let failed = |status: Status| Error::new(Kind::Io, format!("{status}"));
        let mut client = MergesClient::new(Arc::clone(self).connect().await?);
        let submit = v1::SubmitRequest { spec: Some((&model::spec()).into()), force: true, ..Default::default() };
        // A merge that is known and has not failed is as it was.
        let answer = client.submit(submit).await.map_err(failed)?.into_inner();
        let id = answer.merge.map(|merge| merge.id).unwrap_or_default();
        loop {
            let got = client.get(v1::GetRequest { id: id.clone() }).await.map_err(failed)?.into_inner();
            let merge = got.merge.unwrap_or_default();
            match merge.state() {
                MergeState::Done => return Ok(MergeState::Done),
                // Coordinators were killed twice in a row while they opened the output: a person lets it go on.
                MergeState::Held => {
                    client.retry(v1::RetryRequest { id: id.clone() }).await.map_err(failed)?;
                }
                MergeState::Failed | MergeState::Cancelled => {
                    let failure = merge.failure.clone().unwrap_or_default();
                    tracing::debug!(target: "simulation", kind = failure.kind, message = failure.message, "the merge failed");
                    self.laws.failed(&failure);
                    return Ok(merge.state());
                }
                _ => sleep(RESTART).await,
            }
        }
    }
}

/// Everybody in this network is trusted.
fn trusted(mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
    request.extensions_mut().insert(Role::Trusted);
    Ok(request)
}

/// A connection that a coordinator took.
struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, to)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
