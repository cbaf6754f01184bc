//! The life of one active merge: plan, admit, drive. A task of its own, which tells the hub how far it is.

use std::sync::Arc;

use shardfuse_merge::output::manifest::Manifest;
use shardfuse_merge::plan::Plan;
use shardfuse_merge::spec::MergeSpec;
use shardfuse_merge::{DeviceClass, Error, Kind, Result, bounded};
use shardfuse_proto::trace;
use shardfuse_store::{Location, Stores};
use tokio::sync::{oneshot, watch};
use tracing::{Instrument as _, info_span, warn};

use super::options::Options;
use super::report::{End, Halt, Report, Tell, What, interrupted};

use crate::admit::{self, Admitted};
use crate::clean::discard;
use crate::device::{self, Device};
use crate::driver::{self, Input, Progress, Setup};
use crate::failure::{io, location};
use crate::journal;
use crate::opened::ReadyMerge;
use crate::owner::Owner;
use crate::places;
use crate::planning::plan;
use crate::registry::MergeId;
use crate::state::OutputState;

/// How often a merge runs if the store loses parts that it had taken.
const ROUNDS: u32 = 3;
/// Remarks of a plan that are shown, and the longest of them in bytes: they go to everybody who watches the merge.
const REMARKS: usize = 100;
const REMARK: usize = 1 << 10;

/// A merge to run.
pub(super) struct Job {
    pub(super) stores: Arc<Stores>,
    pub(super) options: Options,
    /// Where the coordinator keeps its records.
    pub(super) kept: Option<Location>,
    pub(super) spec: Arc<MergeSpec>,
    pub(super) restart: bool,
    pub(super) force: bool,
    pub(super) allow_no_change: bool,
    pub(super) verify_parts: f64,
    pub(super) device: Device,
    /// The class of the first worker that has the device.
    pub(super) first_class: DeviceClass,
    /// Says that the record tells of the planning that is about to begin.
    pub(super) marked: Option<oneshot::Receiver<()>>,
    pub(super) halt: watch::Receiver<Option<Halt>>,
    pub(super) tell: Tell,
    /// This process's place at the output, once it has one.
    pub(super) owner: Owner,
}

/// A merge that may be driven.
struct Runnable {
    ready: Box<ReadyMerge>,
    class: DeviceClass,
    progress: watch::Sender<Progress>,
}

/// Why a merge is not driven.
enum Early {
    Finished(#[allow(dead_code, reason = "what is in it was said when it was published")] Box<Manifest>),
    Halted,
    Failed(Error),
}

impl From<Error> for Early {
    fn from(error: Error) -> Self {
        Early::Failed(error)
    }
}

impl Job {
    pub(super) async fn run(mut self) {
        let end = self.go().await;
        self.give_up_output(&end).await;
        self.tell.say(What::Ended(end));
        self.tell.ended = true;
    }

    async fn go(&mut self) -> End {
        match self.open().await {
            Ok(opened) => self.drive_all(opened).await,
            Err(early) => self.early(early).await,
        }
    }

    /// Lets others have the output.
    async fn give_up_output(&mut self, end: &End) {
        // What is left of the merge is seen by whoever looks; a store that does not answer leaves a sign of life that ends.
        let begun = match end {
            End::Done(_) => false,
            _ => match state(&self.stores, &self.spec) {
                Ok(state) => state.has("plan").await.unwrap_or(true),
                Err(_) => false,
            },
        };
        std::mem::take(&mut self.owner).release(begun).await;
    }

    async fn early(&self, early: Early) -> End {
        match early {
            Early::Finished(_) => End::Done(None),
            Early::Halted => self.halted(interrupted()).await,
            Early::Failed(e) => End::Failed(e),
        }
    }

    /// Drives a merge to its end. One that lost parts is admitted again, which begins new uploads for what was lost and
    /// keeps the rest.
    async fn drive_all(&mut self, mut opened: Runnable) -> End {
        for _ in 1..ROUNDS {
            let (plan, class, progress) =
                (Arc::clone(&opened.ready.opened.plan), opened.class.clone(), opened.progress.clone());
            match self.drive(opened).await {
                End::Failed(e) if e.kind() == Kind::PartsLost && self.halt.borrow().is_none() => {
                    warn!(merge = %self.tell.merge, error = %e, "parts are lost; the merge goes on with what is there");
                }
                end => return end,
            }
            opened = match self.reopen(&plan, class, progress).await {
                Ok(opened) => opened,
                Err(early) => return self.early(early).await,
            };
        }
        self.drive(opened).await
    }

    /// Admits the merge again under the same plan. What the submitter allowed was done the first time.
    async fn reopen(
        &self,
        plan: &Plan,
        class: DeviceClass,
        progress: watch::Sender<Progress>,
    ) -> std::result::Result<Runnable, Early> {
        let options =
            admit::Options { restart: false, force: false, single_coordinator: self.options.single_coordinator };
        match admit::admit(Arc::clone(&self.stores), plan.clone(), &class, options).await? {
            Admitted::Finished(manifest) => Err(Early::Finished(manifest)),
            Admitted::Ready(ready) => Ok(Runnable { ready, class, progress }),
        }
    }

    async fn open(&mut self) -> std::result::Result<Runnable, Early> {
        if matches!(*self.halt.borrow(), Some(Halt::Cancel { .. })) {
            return Err(Early::Halted);
        }
        for (_, url) in self.spec.places() {
            let refused = |e: shardfuse_store::Error| Error::new(Kind::NotAllowed, e.chain());
            self.options.allow.check(&location(url)?).map_err(refused)?;
        }
        if let Some(marked) = self.marked.take() {
            self.unless_halted(marked).await?.map_err(|_| Early::Halted)?;
        }
        self.unless_halted(places::check(&self.stores, &self.spec, self.kept.as_ref())).await??;
        // Reading can be broken off at any time; opening the output is done to its end.
        let planned = async {
            let (plan, report) = plan(&self.stores, &self.spec).await?;
            Ok::<_, Error>((plan, report, self.class().await?))
        };
        let (plan, report, class) = self.unless_halted(planned).await??;
        let stays = report.stays();
        let told = report.conflicts.iter().chain(&report.warnings).chain(&report.notes).cloned().chain(stays);
        let remarks = bounded::remarks(told, REMARKS, REMARK);
        self.tell.say(What::Planned { plan: plan.digest(), remarks, report: Box::new(report) });
        let output = location(&self.spec.output)?;
        self.stores.open(&output).check_output(&output).await.map_err(io)?;
        let (stores, owning) = (Arc::clone(&self.stores), self.options.owning);
        self.owner = self.unless_halted(Owner::of(&stores, &output, owning)).await??;
        let options = admit::Options {
            restart: self.restart,
            force: self.force,
            single_coordinator: self.options.single_coordinator,
        };
        match admit::admit(Arc::clone(&self.stores), plan, &class, options).await? {
            Admitted::Finished(manifest) => Err(Early::Finished(manifest)),
            Admitted::Ready(ready) => {
                let (noted, done) = oneshot::channel();
                self.tell.say(What::Admitted { noted });
                self.unless_halted(done).await?.map_err(|_| Early::Halted)?;
                match self.halt.borrow().is_some() {
                    true => Err(Early::Halted),
                    false => Ok(Runnable { ready, class, progress: watch::Sender::new(Progress::default()) }),
                }
            }
        }
    }

    /// Waits, but not beyond the moment in which the merge is to stop.
    async fn unless_halted<T>(&self, waited: impl Future<Output = T>) -> std::result::Result<T, Early> {
        tokio::select! {
            done = waited => Ok(done),
            () = halted(self.halt.clone()) => Err(Early::Halted),
        }
    }

    /// The class of the merge: an earlier start's, or the first worker's.
    async fn class(&self) -> Result<DeviceClass> {
        let state = state(&self.stores, &self.spec)?;
        // There is one class of processors, and admission itself refuses to go on in it with what another one began.
        // Where nobody else comes, waiting for another class is in vain: admission refuses it as well.
        if self.device == Device::Cpu || self.options.alone || self.restart || state.plan().await?.is_none() {
            return Ok(self.first_class.clone());
        }
        let history = journal::read(&state).await?.map(|(_, history)| history).unwrap_or_default();
        let journaled = history.device_class.as_ref().map(|c| (c, !history.pieces.is_empty()));
        device::choose(self.device, journaled, &self.first_class)
    }

    async fn drive(&mut self, opened: Runnable) -> End {
        let Runnable { ready, class, progress } = opened;
        let label = label(&self.tell.merge, &ready);
        let (mailbox, inputs) = driver::mailbox();
        let span = info_span!("merge", merge = %self.tell.merge);
        self.tell.say(What::Running {
            label: label.clone(),
            class: class.clone(),
            mailbox: mailbox.clone(),
            progress: progress.subscribe(),
            trace: trace::id_of(&span),
        });
        let setup = Setup {
            label,
            device_class: class,
            limits: self.options.limits,
            verify_parts: self.verify_parts,
            allow_no_change: self.allow_no_change,
            alone: self.options.alone,
            no_worker_timeout: self.options.no_worker_timeout,
            watch_every: self.options.watch_every,
            version: self.options.version,
        };
        let (merge, run, to) = (self.tell.merge.clone(), self.tell.run, self.tell.to.clone());
        let notify = move |notice| {
            let _ = to.send(Report { merge: merge.clone(), run, what: What::Notice(notice) });
        };
        let driving = driver::run(*ready, setup, mailbox.clone(), inputs, progress, notify).instrument(span);
        tokio::pin!(driving);
        let result = tokio::select! {
            result = &mut driving => result,
            () = halted(self.halt.clone()) => {
                // A driver that has ended meanwhile says how.
                let _ = mailbox.send(Input::Cancel);
                driving.await
            }
        };
        match result {
            Ok(summary) => End::Done(Some(Box::new(summary))),
            Err(e) if e.kind() == Kind::Interrupted => self.halted(e).await,
            Err(e) => End::Failed(e),
        }
    }

    /// How a merge ends that was to stop.
    async fn halted(&self, error: Error) -> End {
        let halt = *self.halt.borrow();
        match halt {
            Some(Halt::Cancel { discard: true }) => match discard_output(&self.stores, &self.spec).await {
                Ok(()) => End::Cancelled(error),
                Err(e) => End::Failed(e.at("the merge was cancelled, and what it left cannot be removed")),
            },
            Some(Halt::Cancel { discard: false }) => End::Cancelled(error),
            Some(Halt::Pause) | None => End::Paused(error),
        }
    }
}

/// Ends once the merge is to stop.
async fn halted(mut halt: watch::Receiver<Option<Halt>>) {
    if halt.wait_for(Option::is_some).await.is_err() {
        // The hub is gone, and the runtime with it.
        std::future::pending::<()>().await;
    }
}

/// Names a run in attempts. A claim's token is drawn anew for each, so no two runs have one name, also where a merge was
/// discarded and begun anew: what a worker still has of an earlier run is not taken for this one's.
fn label(id: &MergeId, ready: &ReadyMerge) -> String {
    format!("{id}-{}", ready.opened.claim.token)
}

fn state(stores: &Stores, spec: &MergeSpec) -> Result<OutputState> {
    let output = location(&spec.output)?;
    OutputState::of(stores.open(&output), &output)
}

/// Removes what an unfinished merge left, if it is this one.
async fn discard_output(stores: &Stores, spec: &MergeSpec) -> Result<()> {
    let state = state(stores, spec)?;
    if state.plan().await?.is_none_or(|stored| stored.spec != *spec) {
        return Ok(());
    }
    let output = location(&spec.output)?;
    let store = stores.open(&output);
    discard(&state, &output).await?;
    store.remove_empty_dir(&output).await.map_err(io)
}
