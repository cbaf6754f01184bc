//! The way to the coordinator: connect, say hello, pass messages on, and again when it breaks.
//!
//! Runs as a task of its own, so that a connection that hangs never delays a lease or a receipt.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use shardfuse_merge::{Error, Kind};
use shardfuse_proto::convert::Gather;
use shardfuse_proto::v1::{self, from_worker, to_worker, work_client::WorkClient};
use shardfuse_proto::{MAX_MESSAGE, PROTOCOL_VERSION};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{debug, info, warn};

/// Messages between the stream and the session. Few, so that one that was sent is about to be on its way.
const BUFFER: usize = 8;
/// The first wait before another try; it doubles, with as much again at random.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait, before what chance adds: workers are back well within a lease after their coordinator.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A coordinator that took the connection greets within this time.
const WELCOME_WITHIN: Duration = Duration::from_secs(30);

/// What the link tells the session.
#[derive(Debug)]
pub enum Said {
    /// The coordinator welcomed this worker.
    Up {
        /// Where messages go. Dropping it ends the session in order.
        outbound: mpsc::Sender<v1::FromWorker>,
        /// How often a heartbeat is due.
        heartbeat: Duration,
    },
    /// A message.
    Message(Box<to_worker::Message>),
    /// The session ended or broke; another try follows.
    Down,
    /// There will be no other try.
    End(Error),
}

/// Whether a broken session is taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// One session is all.
    Never,
    /// As long as it takes.
    Forever,
}

/// Keeps a session open until it is refused for good, and tells of it.
///
/// The secret of the last welcome is shown from then on: it says that this is the worker which has the number.
pub async fn keep<F>(mut connect: impl FnMut() -> F, mut hello: v1::Hello, retry: Retry, said: mpsc::Sender<Said>)
where
    F: Future<Output = Result<Channel, Error>>,
{
    let waits = ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .without_max_times()
        .with_jitter()
        .with_jitter_seed(hello.worker_id);
    let mut wait = waits.build();
    // What is wrong is logged when it begins and when it changes, not at every try.
    let mut trouble = String::new();
    loop {
        let lost = match connect().await {
            Ok(channel) => {
                let session = session(channel, &hello, &said).await;
                if let Some(secret) = session.welcomed {
                    hello.secret = secret;
                    wait = waits.build();
                    trouble.clear();
                }
                session.lost
            }
            Err(e) if e.kind() == Kind::Usage => Lost::ForGood(e),
            Err(e) => Lost::ForNow(e),
        };
        let error = match lost {
            Lost::Unheard => return,
            Lost::ForGood(error) => error,
            Lost::ForNow(error) if retry == Retry::Never => error,
            Lost::ForNow(error) => {
                metrics::counter!("shardfuse_sessions_lost_total").increment(1);
                if trouble == error.message() {
                    debug!(error = %error, "still no session");
                } else {
                    warn!(error = %error, hint = error.advice(), "no session with the coordinator; trying until there is one");
                    trouble = error.message().to_owned();
                }
                if said.send(Said::Down).await.is_err() {
                    return;
                }
                let wait = wait.next().unwrap_or(LONGEST_WAIT);
                tokio::select! {
                    () = tokio::time::sleep(wait) => continue,
                    () = said.closed() => return,
                }
            }
        };
        let _ = said.send(Said::End(error)).await;
        return;
    }
}

struct Session {
    /// The secret of the welcome, if there was one.
    welcomed: Option<Vec<u8>>,
    lost: Lost,
}

enum Lost {
    /// Nobody listens any more.
    Unheard,
    ForNow(Error),
    ForGood(Error),
}

async fn session(channel: Channel, hello: &v1::Hello, said: &mpsc::Sender<Said>) -> Session {
    let before = |lost| Session { welcomed: None, lost };
    let mut client =
        WorkClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let (outbound, stream) = mpsc::channel(BUFFER);
    let hello = v1::FromWorker { message: Some(from_worker::Message::Hello(hello.clone())) };
    // The stream is new and has room.
    let _ = outbound.try_send(hello);
    let opening = async {
        let mut inbound = client.session(ReceiverStream::new(stream)).await?.into_inner();
        let first = inbound.next().await.transpose()?;
        Ok::<_, Status>((inbound, first.and_then(|m| m.message)))
    };
    let (mut inbound, first) = match tokio::time::timeout(WELCOME_WITHIN, opening).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(status)) => return before(refusal(&status)),
        Err(_) => return before(Lost::ForNow(io("the coordinator did not answer hello"))),
    };
    let welcome = match first {
        Some(to_worker::Message::Welcome(welcome)) => welcome,
        Some(to_worker::Message::Stop(stop)) => {
            let sent = said.send(Said::Message(Box::new(to_worker::Message::Stop(stop)))).await;
            return before(if sent.is_ok() { Lost::ForNow(ended()) } else { Lost::Unheard });
        }
        Some(_) => return before(Lost::ForNow(io("the coordinator did not begin with a welcome"))),
        None => return before(Lost::ForNow(ended())),
    };
    if welcome.protocol_version != PROTOCOL_VERSION {
        return before(Lost::ForGood(Error::new(
            Kind::Internal,
            format!("the coordinator speaks protocol {}, this worker {PROTOCOL_VERSION}", welcome.protocol_version),
        )));
    }
    info!("the coordinator took this worker");
    let heartbeat = Duration::from_millis(welcome.heartbeat_ms.clamp(10, 60_000));
    let after = |lost| Session { welcomed: Some(welcome.secret.clone()), lost };
    if said.send(Said::Up { outbound, heartbeat }).await.is_err() {
        return after(Lost::Unheard);
    }
    let mut gather = Gather::default();
    loop {
        let message = match inbound.next().await {
            None => return after(Lost::ForNow(ended())),
            Some(Err(status)) => return after(refusal(&status)),
            Some(Ok(v1::ToWorker { message: None })) => {
                warn!("a message without content");
                continue;
            }
            Some(Ok(v1::ToWorker { message: Some(message) })) => gather.take(message),
        };
        match message {
            // The rest of an assignment is on its way.
            Ok(None) => {}
            Err(malformed) => return after(Lost::ForNow(io(malformed.to_string()))),
            Ok(Some(message)) => {
                if said.send(Said::Message(Box::new(message))).await.is_err() {
                    return after(Lost::Unheard);
                }
            }
        }
    }
}

fn io(message: impl Into<String>) -> Error {
    Error::new(Kind::Io, message)
}

fn ended() -> Error {
    io("the coordinator ended the session")
}

/// Who was refused for what it is comes back to the same answer; everything else may pass.
fn refusal(status: &Status) -> Lost {
    let message = status.message();
    match status.code() {
        Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented => {
            Lost::ForGood(Error::new(Kind::Internal, format!("the coordinator refused this worker: {message}")))
        }
        Code::PermissionDenied | Code::Unauthenticated => Lost::ForGood(
            Error::new(Kind::Internal, format!("the coordinator refused this worker: {message}"))
                .hint("a worker needs a certificate with the role worker"),
        ),
        code => Lost::ForNow(io(format!("the session with the coordinator broke: {message} ({code:?})"))),
    }
}
