//! `shardfuse.v1.Work`: sessions of workers, turned into the driver's inputs.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use shardfuse_proto::v1::{self, from_worker, work_server};
use shardfuse_proto::{MAX_MESSAGE, PROTOCOL_VERSION};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::driver::Input;
use crate::schedule::WorkerId;

/// Messages that may wait for one worker. A worker that does not read is lost by its lease, not by our memory.
const OUTBOUND: usize = 1024;

/// What a worker is sent.
pub type ToWorker = Result<v1::ToWorker, Status>;

/// The service of one merge.
#[derive(Debug, Clone)]
pub struct WorkService {
    inputs: mpsc::Sender<Input>,
    device_class: Arc<str>,
    heartbeat: Duration,
}

impl WorkService {
    /// A service that feeds a driver. Workers of other device classes are refused.
    pub fn new(inputs: mpsc::Sender<Input>, device_class: &str, heartbeat: Duration) -> Self {
        WorkService { inputs, device_class: device_class.into(), heartbeat }
    }

    /// The service for a tonic server.
    pub fn into_server(self) -> work_server::WorkServer<Self> {
        work_server::WorkServer::new(self).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }

    fn check(&self, hello: &v1::Hello) -> Result<(), Status> {
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "the worker speaks protocol {}, the coordinator {PROTOCOL_VERSION}",
                hello.protocol_version
            )));
        }
        if *hello.device_class != *self.device_class {
            return Err(Status::failed_precondition(format!(
                "the worker's device class is {}, the merge's is {}",
                hello.device_class, self.device_class
            )));
        }
        if hello.slots == 0 {
            return Err(Status::invalid_argument("the worker offers no slots"));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl work_server::Work for WorkService {
    type SessionStream = Pin<Box<dyn Stream<Item = ToWorker> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::FromWorker>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut inbound = request.into_inner();
        let Some(v1::FromWorker { message: Some(from_worker::Message::Hello(hello)) }) = inbound.message().await?
        else {
            return Err(Status::invalid_argument("a session begins with hello"));
        };
        self.check(&hello)?;
        let worker = WorkerId(hello.worker_id);
        let (send, receive) = mpsc::channel(OUTBOUND);
        let welcome =
            v1::Welcome { protocol_version: PROTOCOL_VERSION, heartbeat_ms: self.heartbeat.as_millis() as u64 };
        let welcome = v1::ToWorker { message: Some(v1::to_worker::Message::Welcome(welcome)) };
        let gone = || Status::unavailable("the merge has ended");
        send.send(Ok(welcome)).await.map_err(|_| gone())?;
        let joined = Input::Joined { worker, slots: hello.slots, outbound: send };
        self.inputs.send(joined).await.map_err(|_| gone())?;
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            while let Some(message) = inbound.next().await {
                // A broken connection is no farewell: the worker may come back before its leases end.
                let Ok(message) = message else { return };
                if let Some(message) = message.message
                    && inputs.send(Input::Said { worker, message }).await.is_err()
                {
                    return;
                }
            }
            let _ = inputs.send(Input::Left { worker }).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }
}

/// The open sessions.
#[derive(Debug, Default)]
pub struct Sessions(HashMap<WorkerId, mpsc::Sender<ToWorker>>);

impl Sessions {
    /// A worker (re)joined.
    pub fn open(&mut self, worker: WorkerId, outbound: mpsc::Sender<ToWorker>) {
        self.0.insert(worker, outbound);
    }

    /// A worker is gone.
    pub fn close(&mut self, worker: WorkerId) {
        self.0.remove(&worker);
    }

    /// Sends without waiting. False if the worker does not take messages any more.
    pub fn send(&mut self, worker: WorkerId, message: v1::to_worker::Message) -> bool {
        let sent = self.0.get(&worker).is_some_and(|s| s.try_send(Ok(v1::ToWorker { message: Some(message) })).is_ok());
        if !sent {
            self.0.remove(&worker);
        }
        sent
    }

    /// Tells every worker that the merge is over.
    pub fn stop(&mut self, reason: &str) {
        for (_, s) in self.0.drain() {
            let stop = v1::to_worker::Message::Stop(v1::Stop { reason: reason.to_owned() });
            let _ = s.try_send(Ok(v1::ToWorker { message: Some(stop) }));
        }
    }
}
