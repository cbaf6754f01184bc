//! The hub: many merges, many workers, one path for one machine and a fleet.
//!
//! One task owns all sessions and all merges, and waits for nothing but its next message. Each active merge has a task of
//! its own (`lifecycle`) that plans, admits, and runs a [driver](crate::driver) with its own schedule. The hub passes on:
//!
//! ```text
//!             Work sessions                                 Merges service
//!                   |  hello, reports (by the attempt's merge)     |  submit, cancel, watch
//!                   v                                              v
//!   .-----------------------------------  hub  -----------------------------------.
//!   |  sessions by worker, merges by id, slots dealt to merges (share), registry  |
//!   '------------------------------------------------------------------------------'
//!         |  joined, slots, beats, reports       ^  planned, running, ended
//!         v                                      |
//!   driver of merge a      driver of merge b   ...    each sends to workers' sessions by itself
//! ```
//!
//! **Sessions.** A worker that connects again under its number replaces its session, and what its old stream still says is
//! dropped. It must show the secret of its first session (`enrol`): nobody else gets its number. A broken stream is no farewell: the worker's attempts live until their leases end. Reports of a merge that is
//! not running here are answered with a revocation.
//!
//! **Restart.** Submissions are in the registry before they are answered. A hub that starts goes on with everything that
//! has not ended, and each merge goes on from its own journal.
//!
//! **A merge that kills its coordinator** must not do so for ever. Before a merge is inspected and planned, that is written
//! into its record, and taken back afterwards. A hub that finds this marker when it starts follows one that was killed
//! meanwhile: it plans such merges one after the other, so that only the guilty one is caught again, and holds the one whose
//! marker it finds at a second start in a row.

mod actor;
mod asked;
mod census;
mod dealing;
pub mod device;
mod enrol;
mod lifecycle;
mod markers;
mod merges;
mod saving;
mod sessions;
pub mod share;
mod starting;
mod view;

use std::sync::Arc;
use std::time::Duration;

use shardfuse_merge::plan::grid::Grid;
use shardfuse_merge::spec::MergeSpec;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1::{self, from_worker};
use shardfuse_store::{Allow, Location, Stores};
use tokio::sync::{mpsc, oneshot, watch};

use crate::admit::Ready;
use crate::driver::{Progress, Summary};
use crate::registry::{Found, MergeId, Registry};
use crate::schedule::{Limits, WorkerId};
use crate::service::ToWorker;

pub use census::Census;
pub use device::Device;
pub use enrol::Enrolment;
pub use view::{Cursor, Page, Stage, View, WorkerView};

/// Messages that may wait for the hub. Who sends more waits, and so does its connection.
const MAILBOX: usize = 1024;

/// How a hub works.
#[derive(Debug, Clone)]
pub struct Options {
    /// What a merge gets that asks for no device.
    pub device: Device,
    /// Merges that are planned and run at a time; others are queued.
    pub max_active: usize,
    /// Merges that may wait for their turn.
    pub max_queued: usize,
    /// Ended merges that are remembered.
    pub max_ended: usize,
    /// How often a worker is to send a heartbeat.
    pub heartbeat: Duration,
    /// Limits of each merge's schedule.
    pub limits: Limits,
    /// The share of the parts that other workers compute again before publication, of a merge that says nothing about it.
    pub verify_parts: f64,
    /// One worker and one merge, nobody else will come: the merge ends when the worker cannot go on.
    pub alone: bool,
    /// How long a merge may go on after all its workers were set aside for the same failure, and how long a part waits for a
    /// worker that may compute it again.
    pub patience: Duration,
    /// How often a running merge checks that no other coordinator has taken it over.
    pub watch_every: Duration,
    /// How long a stop waits for what runs to be journaled.
    pub grace: Duration,
    /// Where merges may read and write.
    pub allow: Allow,
    /// No other coordinator works on the same outputs: they may lie in stores that cannot decide between two.
    pub single_coordinator: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            device: Device::Cpu,
            max_active: 8,
            max_queued: 1_000,
            max_ended: 1_000,
            heartbeat: Duration::from_secs(5),
            limits: Limits::default(),
            verify_parts: 0.0,
            alone: false,
            patience: Duration::from_secs(60),
            watch_every: Duration::from_secs(10),
            grace: Duration::from_secs(20),
            allow: Allow::everything(),
            single_coordinator: false,
        }
    }
}

/// A merge that somebody asks for.
#[derive(Debug, Clone)]
pub struct Submission {
    /// What is merged.
    pub spec: MergeSpec,
    /// Discard what is in the output.
    pub restart: bool,
    /// Replace what is in the output.
    pub force: bool,
    /// Higher goes first.
    pub priority: i32,
    /// The device; `None` is the coordinator's default.
    pub device: Option<Device>,
    /// The share of the parts that other workers compute again before publication; `None` is the coordinator's default.
    pub verify_parts: Option<f64>,
}

/// A merge that was admitted already: the local command does that itself.
#[derive(Debug)]
pub struct Adoption {
    /// The merge.
    pub ready: Ready,
    /// The class it was admitted for.
    pub device_class: String,
    /// Who watches it.
    pub progress: watch::Sender<Progress>,
}

/// What the workers are told when a hub stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Farewell {
    /// Nothing: they come back to the coordinator that follows.
    ComeBack,
    /// To leave, with the reason.
    Leave(String),
}

/// A worker's open session.
#[derive(Debug)]
pub struct Session {
    /// Its number.
    pub number: u64,
    /// Ends (with an error) when the hub closes the session.
    pub closed: watch::Receiver<()>,
}

/// What is asked of the hub.
enum Command {
    Submit(Box<Submission>, oneshot::Sender<Result<(View, bool)>>),
    Adopt(Box<Adoption>, oneshot::Sender<(MergeId, oneshot::Receiver<Result<Summary>>)>),
    Get(MergeId, oneshot::Sender<Option<watch::Receiver<View>>>),
    List(Option<Cursor>, usize, oneshot::Sender<Page>),
    Workers(oneshot::Sender<Vec<WorkerView>>),
    Census(oneshot::Sender<Census>),
    Layers(MergeId, oneshot::Sender<Option<Grid>>),
    Cancel(MergeId, bool, oneshot::Sender<Result<Option<View>>>),
    Retry(MergeId, oneshot::Sender<Result<Option<View>>>),
    Join(Enrolment, mpsc::Sender<ToWorker>, oneshot::Sender<Result<Session>>),
    Said(WorkerId, u64, from_worker::Message),
    Left(WorkerId, u64),
    Broken(WorkerId, u64),
    Stop(Farewell, oneshot::Sender<()>),
}

/// A running hub. Clones speak to the same one.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    heartbeat: Duration,
    key: Arc<enrol::Key>,
    kept: Option<Arc<Location>>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

/// Starts a hub. With a registry it goes on with everything that has not ended there.
pub async fn start(stores: Arc<Stores>, registry: Option<Registry>, options: Options) -> Result<Handle> {
    let (known, key) = match &registry {
        Some(registry) => (registry.all().await?, enrol::Key::kept(registry.stores(), registry.state()).await?),
        None => (Found::default(), enrol::Key::random()?),
    };
    let (commands, receive) = mpsc::channel(MAILBOX);
    let heartbeat = options.heartbeat;
    let kept = registry.as_ref().map(|registry| Arc::new(registry.state().clone()));
    tokio::spawn(actor::Hub::new(stores, registry, options, known).run(receive));
    Ok(Handle { commands, heartbeat, key: Arc::new(key), kept })
}

fn stopped() -> Error {
    Error::new(Kind::Interrupted, "the coordinator is stopping").hint("ask again in a moment")
}

impl Handle {
    /// Where the hub keeps its records, if it does. No merge may read or write there.
    pub fn kept(&self) -> Option<&Location> {
        self.kept.as_deref()
    }

    /// Takes a merge on, and says whether it was known. Durable once this returns.
    ///
    /// # Errors
    /// `OutputBusy` names another merge that has not ended and has the same output; `Busy` says that too many wait, and that
    /// the same submission may be accepted later.
    pub async fn submit(&self, submission: Submission) -> Result<(View, bool)> {
        self.ask(|reply| Command::Submit(Box::new(submission), reply)).await?
    }

    /// Runs a merge that was admitted already. The receiver has its end.
    pub async fn adopt(&self, adoption: Adoption) -> Result<(MergeId, oneshot::Receiver<Result<Summary>>)> {
        self.ask(|reply| Command::Adopt(Box::new(adoption), reply)).await
    }

    /// A merge as it stands, and as it changes.
    pub async fn get(&self, id: MergeId) -> Result<Option<watch::Receiver<View>>> {
        self.ask(|reply| Command::Get(id, reply)).await
    }

    /// Merges, the newest first: at most `limit`, beginning after a place. A page ends early before it becomes a large message.
    pub async fn list(&self, after: Option<Cursor>, limit: usize) -> Result<Page> {
        self.ask(|reply| Command::List(after, limit, reply)).await
    }

    /// Workers, by number.
    pub async fn workers(&self) -> Result<Vec<WorkerView>> {
        self.ask(Command::Workers).await
    }

    /// Merges in numbers.
    pub async fn census(&self) -> Result<Census> {
        self.ask(Command::Census).await
    }

    /// The layer set of a merge that runs; `None` for any other.
    pub async fn layers(&self, id: MergeId) -> Result<Option<Grid>> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Layers(id, reply)).await.map_err(|_| stopped())?;
        // A driver that ends in this moment drops the question: the merge does not run any more.
        Ok(answer.await.unwrap_or(None))
    }

    /// Stops a merge, and with `discard` also removes what is there of it. `None` for a merge that is not known.
    pub async fn cancel(&self, id: MergeId, discard: bool) -> Result<Option<View>> {
        self.ask(|reply| Command::Cancel(id, discard, reply)).await?
    }

    /// Begins a merge again that is held, has failed or was cancelled; any other is left as it is. `None` for a merge that is
    /// not known.
    ///
    /// # Errors
    /// As for [`Handle::submit`].
    pub async fn retry(&self, id: MergeId) -> Result<Option<View>> {
        self.ask(|reply| Command::Retry(id, reply)).await?
    }

    /// Takes no submissions any more, journals what is in flight, ends the sessions, and ends.
    pub async fn stop(&self, farewell: Farewell) {
        // A hub that is gone has stopped.
        let _ = self.ask(|reply| Command::Stop(farewell, reply)).await;
    }

    /// How often a worker is to send a heartbeat.
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// Takes a worker's hello, which was checked. `name` is what its certificate calls it alone, if it has a name: the
    /// number is bound to it.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn enrol(&self, hello: v1::Hello, name: Option<&str>) -> Result<Enrolment> {
        self.key.enrol(hello, name)
    }

    /// Opens a worker's session. `outbound` holds the welcome already.
    ///
    /// # Errors
    /// `OutputBusy` if another worker has its number.
    pub async fn join(&self, enrolment: Enrolment, outbound: mpsc::Sender<ToWorker>) -> Result<Session> {
        self.ask(|reply| Command::Join(enrolment, outbound, reply)).await?
    }

    /// A worker said something in a session. False once the hub is gone.
    pub async fn said(&self, worker: WorkerId, session: u64, message: from_worker::Message) -> bool {
        self.commands.send(Command::Said(worker, session, message)).await.is_ok()
    }

    /// A worker ended its session in order.
    pub async fn left(&self, worker: WorkerId, session: u64) {
        let _ = self.commands.send(Command::Left(worker, session)).await;
    }

    /// A worker's session broke.
    pub async fn broken(&self, worker: WorkerId, session: u64) {
        let _ = self.commands.send(Command::Broken(worker, session)).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }
}
