//! A worker's session with its coordinator: register, take assignments, report pieces, keep leases.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shardfuse_merge::plan::task::Assignment;
use shardfuse_proto::v1::{self, from_worker, to_worker, work_client::WorkClient};
use shardfuse_proto::{MAX_MESSAGE, PROTOCOL_VERSION};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::{debug, warn};

use crate::pipeline::Done;
use crate::{Failure, Pipeline};

/// How a worker presents itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// Kept over reconnects.
    pub worker_id: u64,
    /// For people.
    pub name: String,
    /// The byte budget.
    pub memory: u64,
    /// Tasks at a time.
    pub slots: u32,
}

type Attempt = v1::Attempt;

/// Serves one session until the coordinator stops it or the stream ends. Returns the coordinator's reason.
pub async fn run(channel: Channel, pipeline: Pipeline, options: Options) -> Result<String, Failure> {
    let mut client =
        WorkClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let (outbound, stream) = mpsc::channel(64);
    let hello = v1::Hello {
        protocol_version: PROTOCOL_VERSION,
        worker_id: options.worker_id,
        name: options.name,
        device_class: pipeline.device_class().to_owned(),
        memory_bytes: options.memory,
        slots: options.slots,
    };
    post(&outbound, from_worker::Message::Hello(hello)).await?;
    let response = client.session(ReceiverStream::new(stream)).await.map_err(|s| lost(&s))?;
    Session { pipeline, outbound, tasks: JoinSet::new(), running: HashMap::new(), bytes_put: 0 }
        .serve(response.into_inner())
        .await
}

struct Session {
    pipeline: Pipeline,
    outbound: mpsc::Sender<v1::FromWorker>,
    tasks: JoinSet<(Attempt, Result<(), Failure>)>,
    running: HashMap<Attempt, tokio::task::AbortHandle>,
    bytes_put: u64,
}

impl Session {
    async fn serve(mut self, mut inbound: tonic::Streaming<v1::ToWorker>) -> Result<String, Failure> {
        let (pieces_in, mut pieces) = mpsc::channel::<Done>(64);
        let pieces_in = Arc::new(pieces_in);
        let mut heartbeat = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                message = inbound.next() => match message {
                    None => return Err(Failure::local("the coordinator ended the session")),
                    Some(Err(status)) => return Err(lost(&status)),
                    Some(Ok(v1::ToWorker { message })) => match message {
                        Some(to_worker::Message::Welcome(w)) => heartbeat = tokio::time::interval(Duration::from_millis(w.heartbeat_ms.max(10))),
                        Some(to_worker::Message::Assign(assign)) => self.start(assign, &pieces_in).await?,
                        Some(to_worker::Message::Revoke(v1::Revoke { attempt: Some(a) })) => self.revoke(&a),
                        Some(to_worker::Message::Ack(ack)) => debug!(piece = ack.piece, "acknowledged"),
                        Some(to_worker::Message::Stop(stop)) => return Ok(stop.reason),
                        Some(to_worker::Message::Revoke(_)) | None => warn!("a message without content"),
                    },
                },
                // A device that failed for good fails every task: the worker leaves, and its tasks go elsewhere.
                failure = self.pipeline.lost() => return Err(failure),
                Some(piece) = pieces.recv() => self.report(piece).await?,
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    // Pieces that the task sent before it ended go out before the end does.
                    while let Ok(piece) = pieces.try_recv() {
                        self.report(piece).await?;
                    }
                    match ended {
                        Ok((attempt, result)) => self.ended(attempt, result).await?,
                        Err(e) if e.is_cancelled() => {}
                        Err(e) => return Err(Failure::local(format!("a task panicked: {e}"))),
                    }
                },
                _ = heartbeat.tick() => {
                    let running = self.running.keys().cloned().collect();
                    let beat = v1::Heartbeat { running, bytes_put: self.bytes_put, ..v1::Heartbeat::default() };
                    post(&self.outbound, from_worker::Message::Heartbeat(beat)).await?;
                }
            }
        }
    }

    async fn start(&mut self, assign: v1::Assign, pieces: &Arc<mpsc::Sender<Done>>) -> Result<(), Failure> {
        let attempt = assign.attempt.clone().unwrap_or_default();
        let assignment = match Assignment::try_from(assign) {
            Ok(assignment) => assignment,
            Err(malformed) => return self.ended(attempt, Err(Failure::local(malformed.to_string()))).await,
        };
        let (pipeline, pieces, of) = (self.pipeline.clone(), Arc::clone(pieces), attempt.clone());
        let handle = self.tasks.spawn(async move {
            let result = pipeline.run(&assignment, &pieces).await;
            (of, result)
        });
        self.running.insert(attempt, handle);
        Ok(())
    }

    fn revoke(&mut self, attempt: &Attempt) {
        if let Some(handle) = self.running.remove(attempt) {
            debug!(task = attempt.task, epoch = attempt.epoch, "revoked");
            handle.abort();
        }
    }

    async fn report(&mut self, piece: Done) -> Result<(), Failure> {
        if let Some(v1::piece_done::Result::Part(part)) = &piece.result {
            self.bytes_put += part.length;
        }
        post(&self.outbound, from_worker::Message::PieceDone(piece)).await
    }

    async fn ended(&mut self, attempt: Attempt, result: Result<(), Failure>) -> Result<(), Failure> {
        self.running.remove(&attempt);
        let Err(failure) = result else { return Ok(()) };
        let failed = v1::TaskFailed {
            attempt: Some(attempt),
            kind: failure.retry.into(),
            failure: failure.error.kind().as_str().to_owned(),
            message: failure.error.message().to_owned(),
            hint: failure.error.advice().unwrap_or_default().to_owned(),
        };
        post(&self.outbound, from_worker::Message::TaskFailed(failed)).await
    }
}

async fn post(outbound: &mpsc::Sender<v1::FromWorker>, message: from_worker::Message) -> Result<(), Failure> {
    outbound
        .send(v1::FromWorker { message: Some(message) })
        .await
        .map_err(|_| Failure::local("the session's stream is closed"))
}

fn lost(status: &tonic::Status) -> Failure {
    Failure::local(format!("the session with the coordinator broke: {}", status.message()))
}
