//! `shardfuse.v1.Work`: sessions of workers, checked and passed to the hub.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{FutureExt, Stream};
use shardfuse_merge::{DeviceClass, Error, Kind};
use shardfuse_proto::v1::{self, from_worker, work_server};
use shardfuse_proto::{MAX_MESSAGE, PROTOCOL_VERSION};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};
use tracing::warn;

use super::bounds::bounded;
use super::role::{PeerName, Role, require};
use super::status::status;
use crate::hub::{Handle, Session};
use crate::outbound::ToWorker;
use crate::schedule::WorkerId;

/// Messages that may wait for one worker. A session whose worker does not read is closed; our memory is not its queue.
const OUTBOUND: usize = 1024;
/// The most tasks that a worker takes at a time.
const MAX_SLOTS: u32 = 1024;
/// The longest name of a worker, in bytes.
const MAX_NAME: usize = 256;

/// A session begins within this time, or ends.
const HELLO: Duration = Duration::from_secs(30);

/// The service.
#[derive(Debug, Clone)]
pub struct WorkService {
    hub: Handle,
}

impl WorkService {
    /// A service that feeds a hub.
    pub fn new(hub: Handle) -> Self {
        WorkService { hub }
    }

    /// The service for a tonic server.
    pub fn into_server(self) -> work_server::WorkServer<Self> {
        work_server::WorkServer::new(self).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }
}

/// Refuses what cannot be a worker of this version.
fn check(hello: &v1::Hello) -> Result<(), Status> {
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(Status::failed_precondition(format!(
            "the worker speaks protocol {}, the coordinator {PROTOCOL_VERSION}",
            hello.protocol_version
        )));
    }
    hello
        .device_class
        .parse::<DeviceClass>()
        .map_err(|e| Status::invalid_argument(format!("the worker's device class: {}", e.message())))?;
    if !(1..=MAX_SLOTS).contains(&hello.slots) {
        return Err(Status::invalid_argument(format!(
            "the worker offers {} slots, expected 1 to {MAX_SLOTS}",
            hello.slots
        )));
    }
    if hello.name.len() > MAX_NAME || hello.name.chars().any(char::is_control) {
        return Err(Status::invalid_argument(format!(
            "the worker's name has {} bytes; at most {MAX_NAME} without control characters are taken",
            hello.name.len()
        )));
    }
    Ok(())
}

#[tonic::async_trait]
impl work_server::Work for WorkService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::ToWorker, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::FromWorker>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        require(&request, Role::Worker)?;
        let name = PeerName::of(&request);
        let mut inbound = request.into_inner();
        let first = tokio::time::timeout(HELLO, inbound.message())
            .await
            .map_err(|_| Status::deadline_exceeded(format!("no hello within {HELLO:?}")))?;
        let Some(v1::FromWorker { message: Some(from_worker::Message::Hello(hello)) }) = first? else {
            return Err(Status::invalid_argument("a session begins with hello"));
        };
        check(&hello)?;
        let (worker, called) = (WorkerId(hello.worker_id), hello.name.clone());
        let enrolment = self.hub.enrol(hello, name.as_deref()).map_err(|e| status(&e))?;
        let (send, receive) = mpsc::channel(OUTBOUND);
        let heartbeat_ms = u64::try_from(self.hub.heartbeat().as_millis()).unwrap_or(u64::MAX);
        let welcome = v1::Welcome { protocol_version: PROTOCOL_VERSION, heartbeat_ms, secret: enrolment.secret() };
        let welcome = ToWorker::Message(v1::to_worker::Message::Welcome(welcome));
        send.try_send(welcome).map_err(|_| Status::internal("a new queue is full"))?;
        let refusals = send.clone();
        let session = self.hub.join(enrolment, send).await.map_err(|e| status(&e))?;
        let outbound = Outbound::new(receive, session.closed.clone());
        tokio::spawn(read(self.hub.clone(), (worker, called), session, inbound, refusals));
        Ok(Response::new(Box::pin(outbound)))
    }
}

/// Passes on a worker's messages until its session ends. A message beyond the bounds ends it, with the reason.
async fn read(
    hub: Handle,
    (worker, name): (WorkerId, String),
    session: Session,
    mut inbound: Streaming<v1::FromWorker>,
    refusals: mpsc::Sender<ToWorker>,
) {
    let Session { number, mut closed } = session;
    loop {
        let message = tokio::select! {
            message = inbound.next() => message,
            _ = closed.changed() => return,
        };
        match message {
            Some(Ok(v1::FromWorker { message: Some(message) })) => {
                let message = match bounded(message) {
                    Ok(message) => message,
                    Err(why) => {
                        warn!(%worker, name, why, "a message of a worker is beyond the bounds; its session is closed");
                        // If it does not read, the end of the session has to be enough.
                        let _ = refusals.try_send(ToWorker::Refused(Error::new(Kind::Usage, why)));
                        return hub.broken(worker, number).await;
                    }
                };
                if !hub.said(worker, number, message).await {
                    return;
                }
            }
            Some(Ok(v1::FromWorker { message: None })) => {}
            // A broken connection is no farewell: the worker may come back before its leases end.
            Some(Err(_)) => return hub.broken(worker, number).await,
            None => return hub.left(worker, number).await,
        }
    }
}

/// What a worker is sent, until the hub closes the session and the queue is empty.
struct Outbound {
    queue: mpsc::Receiver<ToWorker>,
    closed: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Outbound {
    fn new(queue: mpsc::Receiver<ToWorker>, mut closed: watch::Receiver<()>) -> Self {
        let closed = async move {
            // Nothing is ever sent: it ends when the sender is dropped.
            while closed.changed().await.is_ok() {}
        };
        Outbound { queue, closed: Box::pin(closed.fuse()) }
    }
}

impl Stream for Outbound {
    type Item = Result<v1::ToWorker, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.queue.poll_recv(context) {
            Poll::Ready(entry) => Poll::Ready(entry.map(on_the_wire)),
            Poll::Pending => self.closed.as_mut().poll(context).map(|()| None),
        }
    }
}

/// An entry of the queue as gRPC sends it.
fn on_the_wire(entry: ToWorker) -> Result<v1::ToWorker, Status> {
    match entry {
        ToWorker::Message(message) => Ok(v1::ToWorker { message: Some(message) }),
        ToWorker::Refused(error) => Err(status(&error)),
    }
}
