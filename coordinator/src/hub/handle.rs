//! The handle of a running hub.

use std::sync::Arc;
use std::time::Duration;

use shardfuse_merge::Result;
use shardfuse_merge::plan::grid::Layers;
use shardfuse_proto::v1::{self, from_worker};
use shardfuse_store::{Location, Stores};
use tokio::sync::{mpsc, oneshot, watch};

use super::actor::Hub;
use super::census::Census;
use super::command::{Command, Farewell, Followed, Follower, Session, Submission, stopped};
use super::enrol::{Enrolment, SessionKey};
use super::options::Options;
use super::stream::Stretch;
use super::view::{Cursor, Page, View, WorkerView};
use crate::happening::Happenings;
use crate::outbound::ToWorker;
use crate::registry::{Found, MergeId, Registry};
use crate::schedule::WorkerId;

/// Messages that may wait for the hub. Who sends more waits, and so does its connection.
const MAILBOX: usize = 1024;

/// A running hub. Clones speak to the same one.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    heartbeat: Duration,
    key: Arc<SessionKey>,
    kept: Option<Arc<Location>>,
}

/// Starts a hub. With a registry it goes on with everything that has not ended there.
pub async fn start(stores: Arc<Stores>, registry: Option<Registry>, options: Options) -> Result<Handle> {
    let (known, key) = match &registry {
        Some(registry) => (registry.all().await?, SessionKey::kept(registry.stores(), registry.state()).await?),
        None => (Found::default(), SessionKey::random()?),
    };
    let kept = registry.as_ref().map(|registry| Arc::new(registry.state().clone()));
    Ok(spawn(Hub::new(stores, registry, options, known), key, kept))
}

/// Runs a hub in a task of its own.
pub(super) fn spawn(hub: Hub, key: SessionKey, kept: Option<Arc<Location>>) -> Handle {
    let (commands, receive) = mpsc::channel(MAILBOX);
    let heartbeat = hub.options.heartbeat;
    tokio::spawn(hub.run(receive));
    Handle { commands, heartbeat, key: Arc::new(key), kept }
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
        self.ask(|reply| Command::Submit(Box::new(submission), None, reply)).await?
    }

    /// Takes a merge on as [`Handle::submit`] does, for a submitter that follows it to its end.
    ///
    /// # Errors
    /// As for [`Handle::submit`].
    pub async fn follow(&self, submission: Submission) -> Result<Followed> {
        let ((tell_planned, planned), (tell_ended, ended)) = (oneshot::channel(), oneshot::channel());
        let follower = Follower { planned: Some(tell_planned), ended: tell_ended };
        let id = self.ask(|reply| Command::Submit(Box::new(submission), Some(follower), reply)).await??.0.id;
        let views = self.get(id.clone()).await?.ok_or_else(stopped)?;
        Ok(Followed { id, views, planned, ended })
    }

    /// The merge of an id, or of the beginning of one. `None` if there is no such merge.
    ///
    /// # Errors
    /// `usage` if several ids begin so.
    pub async fn named(&self, text: &str) -> Result<Option<MergeId>> {
        self.ask(|reply| Command::Named(text.to_owned(), reply)).await?
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

    /// What happened to a merge, or without one to the workers; `None` for a merge that is not known.
    pub async fn happenings(&self, of: Option<MergeId>) -> Result<Option<Happenings>> {
        self.ask(|reply| Command::Happenings(of, reply)).await
    }

    /// The parts and blocks of a merge that were finished after a number, with what their time went to, the oldest first.
    pub async fn stream(&self, of: MergeId, after: u64) -> Result<Vec<Stretch>> {
        self.ask(|reply| Command::Stream(of, after, reply)).await
    }

    /// Merges in numbers.
    pub async fn census(&self) -> Result<Census> {
        self.ask(Command::Census).await
    }

    /// The layer set of a merge that runs; `None` for any other.
    pub async fn layers(&self, id: MergeId) -> Result<Option<Layers>> {
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
    /// If its device class is none, or the system has no randomness.
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
