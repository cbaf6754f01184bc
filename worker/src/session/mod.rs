//! A worker's session with its coordinator: register, take assignments, report pieces, keep leases, come back.
//!
//! What is owed is decided by the [`ledger`], which is pure; [`link`] keeps the stream; this file runs the work and carries
//! messages between the three.
//!
//! **What is kept.** A receipt is kept until the coordinator acknowledges it or revokes its attempt, and said once in every
//! session. A failure is not acknowledged: it is kept for one lease after it was said, and said again in a session that
//! begins by then. Receipts that wait are bounded (32 MiB); above that no further piece is begun.
//!
//! **Leases.** A lease runs from the receipt of the assignment and from every heartbeat that the stream took. This worker
//! ends it after five sixths of its time, so before the coordinator does. Heartbeats list every attempt that waits
//! for a slot, runs, or has receipts that are not acknowledged; the coordinator revokes those that do not count any more.
//!
//! **When the coordinator is lost** (the stream breaks, or does not take a heartbeat):
//!
//! | | what happens |
//! |---|---|
//! | pieces that are being made | go on, are put, and leave their receipts |
//! | pieces not begun, lease not over | are begun as before |
//! | pieces not begun, lease over by this clock | wait; nothing new is begun |
//! | assignments that wait for a slot | wait, as above |
//! | receipts | are kept and offered in the next session |
//! | the connection | is tried anew, with growing waits, until it stands or the worker is told to leave |
//!
//! In the next session a heartbeat comes first, then the receipts. The coordinator decides by the epoch whether an attempt
//! still counts: if not, it answers with a revocation, which drops the attempt with its receipts; if so, the attempt
//! goes on where it stood. A put that is late writes the bytes that are there anyway.
//!
//! **Leaving.** Told to, the worker says so, hands back what waits for a slot, finishes what runs, and ends the session once
//! every receipt is acknowledged. When the grace is over, what still runs is handed back as well. A worker whose device is lost
//! leaves in the same way, without a grace, and ends with what happened to the device.

use std::collections::HashMap;
use std::time::Duration;

use shardfuse_merge::plan::task::Assignment;
use shardfuse_merge::{Error, Kind};
use shardfuse_proto::v1::{self, from_worker, to_worker};
use shardfuse_proto::{MAX_MESSAGE, PROTOCOL_VERSION, trace};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::transport::Channel;
use tracing::{Instrument as _, Span, debug, info, info_span, warn};

use crate::work::{Done, Gate, Meter, Usage, Work};
use crate::{Failure, Pipeline};

mod attempt;
mod ledger;
mod link;
#[cfg(test)]
mod tests;

use attempt::Attempt;
use ledger::{Action, Event, Ledger};
use link::{Retry, Said};

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long the last words may take, beside the grace.
const FAREWELL: Duration = Duration::from_secs(2);
/// The longest text of a failure, in bytes.
const MAX_TEXT: usize = 16 << 10;

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

/// Serves one session over a channel until the coordinator stops it. Returns the coordinator's reason.
///
/// # Errors
/// If the session is refused or breaks.
pub async fn run(channel: Channel, pipeline: Pipeline, options: Options) -> Result<String, Error> {
    let connect = move || std::future::ready(Ok(channel.clone()));
    drive(connect, Retry::Never, pipeline, options, std::future::pending()).await
}

/// Serves a coordinator until it says stop or `shutdown` resolves, over as many sessions as it takes. `connect` is called
/// for each, and resolves the coordinator's name anew. `shutdown` resolves to the grace: how long finishing may take.
/// Returns why it ended.
///
/// # Errors
/// If the coordinator refuses this worker for what it is (protocol version, device class, role), or `connect` fails with
/// [`Kind::Usage`]. Everything else is tried again.
pub async fn serve<F>(
    connect: impl FnMut() -> F + Send + 'static,
    pipeline: Pipeline,
    options: Options,
    shutdown: impl Future<Output = Duration>,
) -> Result<String, Error>
where
    F: Future<Output = Result<Channel, Error>> + Send + 'static,
{
    drive(connect, Retry::Forever, pipeline, options, shutdown).await
}

async fn drive<F>(
    connect: impl FnMut() -> F + Send + 'static,
    retry: Retry,
    work: impl Work,
    options: Options,
    shutdown: impl Future<Output = Duration>,
) -> Result<String, Error>
where
    F: Future<Output = Result<Channel, Error>> + Send + 'static,
{
    let hello = v1::Hello {
        protocol_version: PROTOCOL_VERSION,
        worker_id: options.worker_id,
        name: options.name,
        device_class: work.device_class(),
        memory_bytes: options.memory,
        slots: options.slots,
        secret: Vec::new(),
    };
    let (said_in, said) = mpsc::channel(64);
    let (pieces_in, pieces) = mpsc::channel(64);
    let mut link = JoinSet::new();
    link.spawn(link::keep(connect, hello, retry, said_in));
    let session = Session {
        work,
        ledger: Ledger::new(options.slots),
        origin: Instant::now(),
        outbound: None,
        pieces_in,
        waiting: HashMap::new(),
        tasks: JoinSet::new(),
        running: HashMap::new(),
        names: HashMap::new(),
        leaving: false,
    };
    session.serve(said, pieces, shutdown).await
}

/// An attempt that runs.
struct Running {
    handle: AbortHandle,
    gate: Gate,
    meter: Meter,
}

struct Session<W> {
    work: W,
    ledger: Ledger,
    origin: Instant,
    /// The open session's stream.
    outbound: Option<mpsc::Sender<v1::FromWorker>>,
    pieces_in: mpsc::Sender<Done>,
    /// Assignments that wait for a slot.
    waiting: HashMap<Attempt, (Assignment, Span)>,
    tasks: JoinSet<Result<(), Failure>>,
    running: HashMap<Attempt, Running>,
    names: HashMap<Id, Attempt>,
    leaving: bool,
}

impl<W: Work> Session<W> {
    async fn serve(
        mut self,
        mut said: mpsc::Receiver<Said>,
        mut pieces: mpsc::Receiver<Done>,
        shutdown: impl Future<Output = Duration>,
    ) -> Result<String, Error> {
        tokio::pin!(shutdown);
        let work = self.work.clone();
        let mut lost = Box::pin(work.lost());
        let mut heartbeat = tokio::time::interval(Duration::from_secs(5));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut beat_due = false;
        let mut grace: Option<Instant> = None;
        let mut over = false;
        let mut dead: Option<Error> = None;
        loop {
            if self.leaving {
                let left = self.farewell(said).await;
                return dead.map_or(left, Err);
            }
            let outbound = self.outbound.clone();
            let room = async {
                match &outbound {
                    Some(outbound) => outbound.reserve().await,
                    None => std::future::pending().await,
                }
            };
            let grace_over = async {
                match grace {
                    Some(end) if !over => tokio::time::sleep_until(end).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                message = said.recv() => match message {
                    None => return Err(Error::new(Kind::Internal, "the link to the coordinator ended")),
                    Some(Said::End(error)) => return Err(dead.unwrap_or(error)),
                    Some(Said::Down) => {
                        metrics::gauge!("shardfuse_connected").set(0.0);
                        self.outbound = None;
                        self.step(Event::Closed);
                    }
                    Some(Said::Up { outbound, heartbeat: every }) => {
                        metrics::gauge!("shardfuse_connected").set(1.0);
                        self.outbound = Some(outbound);
                        heartbeat = tokio::time::interval_at(Instant::now() + every, every);
                        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Skip);
                        beat_due = true;
                        self.step(Event::Opened);
                    }
                    Some(Said::Message(message)) => match *message {
                        to_worker::Message::Stop(stop) => return dead.map_or(Ok(stop.reason), Err),
                        message => self.told(message),
                    },
                },
                // Every task would fail here now: the worker hands them back and leaves.
                failure = lost.as_mut(), if dead.is_none() => {
                    warn!(error = %failure.error, "leaving: the device is lost");
                    dead = Some(failure.error);
                    over = true;
                    grace = Some(Instant::now());
                    self.step(Event::GraceOver);
                }
                Some(piece) = pieces.recv() => self.finished(piece),
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    // Pieces that the work sent before it ended are known before the end is.
                    while let Ok(piece) = pieces.try_recv() {
                        self.finished(piece);
                    }
                    match ended {
                        Ok((id, result)) => self.ended(id, result),
                        Err(e) if e.is_cancelled() => _ = self.names.remove(&e.id()),
                        Err(e) => self.ended(e.id(), Err(Failure::local(format!("the work panicked: {e}")))),
                    }
                },
                permit = room, if beat_due || self.ledger.has_message() => {
                    // A stream that takes nothing any more is lost; the link will say so.
                    let Ok(permit) = permit else { self.outbound = None; continue };
                    if beat_due {
                        beat_due = false;
                        permit.send(said_by(self.heartbeat()));
                        self.step(Event::HeartbeatSent);
                    } else if let Some(message) = self.ledger.next_message(self.origin.elapsed()) {
                        permit.send(said_by(message));
                        self.step(Event::Tick);
                    }
                },
                _ = heartbeat.tick(), if self.outbound.is_some() => beat_due = true,
                _ = tick.tick() => self.step(Event::Tick),
                time = &mut shutdown, if grace.is_none() => {
                    info!(grace_s = time.as_secs(), "leaving: nothing new is taken");
                    grace = Some(Instant::now() + time);
                    self.step(Event::Drain);
                }
                () = grace_over => {
                    over = true;
                    warn!(running = self.running.len(), "the grace is over: what still runs is handed back");
                    self.step(Event::GraceOver);
                    grace = Some(Instant::now());
                }
                () = tokio::time::sleep_until(grace.map_or_else(Instant::now, |end| end + FAREWELL)), if over => {
                    self.leaving = true;
                }
            }
        }
    }

    /// Ends the session in order: what was said goes out before the stream ends.
    async fn farewell(mut self, mut said: mpsc::Receiver<Said>) -> Result<String, Error> {
        if self.outbound.take().is_none() {
            return Ok("told to leave".to_owned());
        }
        let ended = async {
            while let Some(message) = said.recv().await {
                match message {
                    Said::Message(_) => {}
                    Said::Up { .. } | Said::Down | Said::End(_) => return,
                }
            }
        };
        let _ = tokio::time::timeout(FAREWELL, ended).await;
        Ok("told to leave".to_owned())
    }

    fn told(&mut self, message: to_worker::Message) {
        match message {
            to_worker::Message::Assign(assign) => self.assigned(assign),
            to_worker::Message::Revoke(v1::Revoke { attempt: Some(attempt) }) => {
                self.step(Event::Revoked { attempt: attempt.into() });
            }
            to_worker::Message::Ack(v1::Ack { attempt: Some(attempt), piece }) => {
                self.step(Event::Acknowledged { attempt: attempt.into(), piece });
            }
            to_worker::Message::Revoke(_) | to_worker::Message::Ack(_) => warn!("a message that names no attempt"),
            // The link puts assignments together.
            to_worker::Message::Welcome(_) | to_worker::Message::Stop(_) | to_worker::Message::MoreTensors(_) => {}
        }
    }

    fn assigned(&mut self, assign: v1::Assign) {
        let Some(attempt) = assign.attempt.clone().map(Attempt::from) else {
            return warn!("an assignment that names no attempt");
        };
        if self.ledger.knows(&attempt) {
            return debug!(%attempt, "assigned again");
        }
        let lease = Duration::from_millis(assign.lease_ms);
        let span = info_span!("task", merge = attempt.merge, task = attempt.task, epoch = attempt.epoch);
        trace::adopt(&span, &assign.trace_context);
        match Assignment::try_from(assign) {
            Ok(assignment) => {
                self.waiting.insert(attempt.clone(), (assignment, span));
                self.step(Event::Assigned { attempt: attempt.clone(), lease });
                if !self.ledger.is_queued(&attempt) {
                    self.waiting.remove(&attempt);
                }
            }
            Err(malformed) => {
                let failure = Failure::permanent(Kind::Internal, malformed.to_string());
                // Taken and failed at once, so that it is told like any other.
                self.step(Event::Assigned { attempt: attempt.clone(), lease });
                self.step(Event::Ended { failure: Some(task_failed(&attempt, &failure)), attempt });
            }
        }
    }

    fn finished(&mut self, report: Done) {
        let Some(attempt) = report.attempt.clone().map(Attempt::from) else { return };
        let length = prost::Message::encoded_len(&report);
        if length + 64 > MAX_MESSAGE {
            let failure = Failure::permanent(
                Kind::Unsupported,
                format!(
                    "the report of piece {} of task {} is {length} bytes long, a message has at most {MAX_MESSAGE}",
                    report.piece, attempt.task
                ),
            );
            if let Some(running) = self.running.remove(&attempt) {
                running.handle.abort();
            }
            return self.step(Event::Ended { failure: Some(task_failed(&attempt, &failure)), attempt });
        }
        self.step(Event::Finished { attempt, report });
    }

    fn ended(&mut self, id: Id, result: Result<(), Failure>) {
        let Some(attempt) = self.names.remove(&id) else { return };
        // Another run of the same attempt cannot be: the ledger takes each once.
        self.running.remove(&attempt);
        let failure = result.err().map(|failure| {
            metrics::counter!("shardfuse_task_failures_total", "kind" => failure.error.kind().as_str()).increment(1);
            debug!(%attempt, error = %failure.error, retry = ?failure.retry, "failed");
            task_failed(&attempt, &failure)
        });
        self.step(Event::Ended { attempt, failure });
    }

    fn heartbeat(&self) -> from_worker::Message {
        let Usage { bytes_put, bytes_read, bytes_copied, memory_used, stages } = self.work.usage();
        let running = self.ledger.alive().map(Into::into).collect();
        // What waits for a slot, or for an acknowledgement, does nothing.
        let effort = |attempt| self.running.get(attempt).map(|r| r.meter.effort()).unwrap_or_default();
        let efforts = self.ledger.alive().map(effort).collect();
        from_worker::Message::Heartbeat(v1::Heartbeat {
            running,
            bytes_put,
            bytes_read,
            bytes_copied,
            memory_used,
            efforts,
            stages: Some(stages),
        })
    }

    fn step(&mut self, event: Event) {
        for action in self.ledger.step(self.origin.elapsed(), event) {
            match action {
                Action::Start(attempt) => self.start(attempt),
                Action::Abort(attempt) => {
                    debug!(%attempt, "stopped");
                    self.waiting.remove(&attempt);
                    if let Some(running) = self.running.remove(&attempt) {
                        running.handle.abort();
                    }
                }
                Action::Hold(attempt) => self.set(&attempt, false),
                Action::Resume(attempt) => self.set(&attempt, true),
                Action::Leave => self.leaving = true,
            }
        }
    }

    fn set(&self, attempt: &Attempt, open: bool) {
        debug!(%attempt, open, "may begin pieces");
        if let Some(running) = self.running.get(attempt) {
            running.gate.set(open);
        }
    }

    fn start(&mut self, attempt: Attempt) {
        let Some((assignment, span)) = self.waiting.remove(&attempt) else { return };
        let (work, pieces, gate, meter) = (self.work.clone(), self.pieces_in.clone(), Gate::open(), Meter::default());
        let (passed, counted) = (gate.clone(), meter.clone());
        let run = async move { work.run(assignment, pieces, passed, counted).await };
        let handle = self.tasks.spawn(run.instrument(span));
        self.names.insert(handle.id(), attempt.clone());
        self.running.insert(attempt, Running { handle, gate, meter });
    }
}

fn said_by(message: from_worker::Message) -> v1::FromWorker {
    v1::FromWorker { message: Some(message) }
}

fn task_failed(attempt: &Attempt, failure: &Failure) -> v1::TaskFailed {
    v1::TaskFailed {
        attempt: Some(attempt.into()),
        kind: failure.retry.into(),
        failure: failure.error.kind().as_str().to_owned(),
        message: shorten(failure.error.message()),
        hint: shorten(failure.error.advice().unwrap_or_default()),
    }
}

fn shorten(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
