//! Admission: whether a merge may begin in an output, goes on from an earlier start, or is done already.

use std::sync::Arc;

use bytes::Bytes;
use shardfuse_merge::output::OutputFile;
use shardfuse_merge::output::manifest::{MANIFEST, Manifest};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::task::tasks;
use shardfuse_merge::{DeviceClass, Error, Kind, Result};
use shardfuse_store::{Location, Stores};
use tracing::info;

use crate::clean::discard;
use crate::device::other_class;
use crate::failure::{io, location, of_begun};
use crate::index;
use crate::journal::{self, History, Writer};
use crate::opened::{Opened, ReadyMerge, Resumed};
use crate::places;
use crate::state::{self, Claim, OutputState, STATE, Standing, Taken, token};
use crate::{announced, equal, publish};

mod open;
mod space;
mod touched;

/// Says that the merge replaces an older output.
const REPLACES: &str = "replaces";
/// How often admission begins again because another coordinator changed the state meanwhile.
const ROUNDS: usize = 5;

/// What the user allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Discard an unfinished merge that is there.
    pub restart: bool,
    /// Replace an output that is not this merge.
    pub force: bool,
    /// Nobody else will work on this output: it may lie in a store that cannot decide between two coordinators.
    pub single_coordinator: bool,
}

/// What admission found.
#[derive(Debug)]
pub enum Admitted {
    /// The merge may run.
    Ready(Box<ReadyMerge>),
    /// The output is this very merge, finished.
    Finished(Box<Manifest>),
}

/// Opens the output for a plan. The merge will be done by workers of `device_class`.
pub async fn admit(stores: Arc<Stores>, plan: Plan, device_class: &DeviceClass, options: Options) -> Result<Admitted> {
    places::check(&stores, &plan.spec, None).await?;
    let output = location(&plan.spec.output)?;
    let store = stores.open(&output);
    store.check_output(&output).await.map_err(io)?;
    refuse_links(&state::links(&*store, &output).await?, &plan, &output)?;
    if !options.single_coordinator && !store.conditional_puts(&output).await.map_err(io)? {
        return Err(Error::new(
            Kind::Unsupported,
            format!("{output} lies in a store without conditional puts, which cannot tell two coordinators apart"),
        )
        .hint("write to another store, or run one coordinator only and say so with --single-coordinator"));
    }
    let mut admission = Admission {
        state: OutputState::of(store, &output)?,
        begun: String::new(),
        digest: plan.digest(),
        plan: Arc::new(plan),
        stores,
        output,
        device_class,
        options,
    };
    for _ in 0..ROUNDS {
        if let Some(admitted) = admission.attempt().await? {
            return Ok(admitted);
        }
    }
    Err(Error::new(
        Kind::OutputBusy,
        format!("other coordinators begin and end merges in {} again and again", admission.output),
    ))
}

/// Refuses an output in which a file of the plan would be written through a link to a folder.
fn refuse_links(links: &[String], plan: &Plan, output: &Location) -> Result<()> {
    for file in plan.output.names() {
        if let Some(link) = links.iter().find(|link| file.strip_prefix(*link).is_some_and(|rest| rest.starts_with('/')))
        {
            return Err(Error::new(
                Kind::UnsafePath,
                format!("{output}/{link} is a link to a folder, and {file} of the output would be written through it"),
            )
            .hint("remove the link, or choose another folder"));
        }
    }
    Ok(())
}

struct Admission<'a> {
    stores: Arc<Stores>,
    plan: Arc<Plan>,
    digest: String,
    /// The digest of the plan in the state: this one, but perhaps for versions of inputs.
    begun: String,
    output: Location,
    state: OutputState,
    device_class: &'a DeviceClass,
    options: Options,
}

impl Admission<'_> {
    /// `None` if another coordinator was faster somewhere: what it left is looked at afresh.
    async fn attempt(&mut self) -> Result<Option<Admitted>> {
        let (state, output) = (self.state.clone(), self.output.clone());
        let store = &*state.store;
        self.begun.clone_from(&self.digest);
        let stored = if self.options.restart { None } else { state.plan().await? };
        let epochs = if stored.is_some() { state.epochs().await? } else { Vec::new() };
        if epochs.iter().any(Taken::is_seal) {
            // Published or given up, and killed before all of it was removed.
            discard(&state, &output).await?;
            return Ok(None);
        }
        let before = self.list().await?;
        let ours = |name: &String| name.starts_with(&format!("{STATE}/"));
        let foreign: Vec<&String> = before.iter().filter(|n| !ours(n)).collect();
        if let Some(stored) = &stored {
            if touched::only(&self.stores, &self.plan, stored).await? {
                info!(%output, "inputs were touched, and hold what they held");
                self.begun = stored.digest();
            } else {
                refuse_other(&self.plan, stored, &output)?;
            }
            // What the store copies may look different today. The merge goes on with the parts that it has.
            self.plan = Arc::new(Plan::clone(&self.plan).cut_as(stored));
            self.refuse_other_class().await?;
            info!(%output, "going on with an unfinished merge");
        } else {
            if let Some(manifest) = publish::manifest(store, &output).await?
                && manifest.plan == self.digest
                && !self.options.restart
                && publish::complete(store, &output, &manifest).await?
            {
                if before.iter().any(ours) {
                    discard(&state, &output).await?;
                } else {
                    // On a file system a removal that was interrupted last of all leaves an empty folder.
                    store.remove_empty_dir(&state.at).await.map_err(io)?;
                }
                return Ok(Some(Admitted::Finished(Box::new(manifest))));
            }
            self.refuse_foreign(&before, &foreign).await?;
            space::check(&state, &output, &self.plan, self.options.restart).await?;
            equal::check(&self.stores, &self.plan).await?;
            discard(&state, &output).await?;
            // Once is enough: what comes now is not what the user wants to be rid of.
            self.options.restart = false;
            if !foreign.is_empty() {
                // Noted before the plan is there: only what was asked for is cleared away, also after a kill.
                self.note_replaces().await?;
            }
            if !state.store_plan(&self.plan).await? {
                return Ok(None);
            }
            if !foreign.is_empty() {
                // A coordinator that looked before the plan was there may have taken the first note for a leftover.
                self.note_replaces().await?;
            }
        }
        let past = epochs.len() as u64;
        let claim = state.take_epoch(&self.begun, past).await?;
        if !self.begins_in(&claim, past).await? {
            return Ok(None);
        }
        if stored.is_none() && !self.list().await?.iter().filter(|n| !ours(n)).eq(foreign.iter().copied()) {
            // Somebody published, or wrote something of their own, before the plan was there to be seen.
            discard(&state, &output).await?;
            return Ok(None);
        }
        let made_folder = foreign.is_empty();
        match self.open(claim.clone(), made_folder).await {
            Ok(ready) => Ok(Some(Admitted::Ready(Box::new(ready)))),
            Err(e) => {
                // Whatever failed, it failed because somebody else finished or removed what it needed.
                match state.check(&claim).await {
                    Err(busy) if busy.kind() == Kind::OutputBusy => return Err(busy),
                    _ if stored.is_some() => return Err(of_begun(e)),
                    _ => {}
                }
                // Nothing half-begun stays behind an output that cannot be opened.
                if state.standing(&claim).await.is_ok_and(|s| s == Standing::Holds) {
                    let _ = discard(&state, &output).await;
                    if made_folder {
                        let _ = store.remove_empty_dir(&output).await;
                    }
                }
                Err(e)
            }
        }
    }

    /// Whether the state is there for a claim just taken, with `past` epochs below it that were looked at before.
    ///
    /// A coordinator that removes a state seals it first, by an epoch, and removes the plan next. So if the plan is there now and no
    /// epoch before this one is a seal, the state stays for as long as the claim holds. A gap below says that the state was
    /// removed and begun anew after those epochs were counted: the claim would stand beside the first one of the new state.
    async fn begins_in(&self, claim: &Claim, past: u64) -> Result<bool> {
        if self.state.plan().await?.is_none_or(|plan| plan.digest() != self.begun) {
            return Ok(false);
        }
        for epoch in past + 1..claim.epoch {
            if self.state.taken(epoch).await?.is_none_or(|taken| taken.is_seal()) {
                return Ok(false);
            }
        }
        self.state.in_sequence().await
    }

    /// Never the same bytes twice: a coordinator that removes an earlier state late removes nothing of this one.
    async fn note_replaces(&self) -> Result<()> {
        self.state.put(REPLACES, Bytes::from(format!("{}\n", token()))).await
    }

    /// What other devices began has other bits.
    async fn refuse_other_class(&self) -> Result<()> {
        match journal::read(&self.state).await? {
            Some((_, History { device_class: Some(begun), pieces, .. }))
                if begun != *self.device_class && !pieces.is_empty() =>
            {
                Err(other_class(&begun, self.device_class))
            }
            _ => Ok(()),
        }
    }

    /// The names of everything in the output, in their order.
    async fn list(&self) -> Result<Vec<String>> {
        Ok(self.state.store.list(&self.output).await.map_err(io)?.into_iter().map(|e| e.name).collect())
    }

    async fn refuse_foreign(&self, before: &[String], foreign: &[&String]) -> Result<()> {
        let Some(first) = foreign.first() else { return Ok(()) };
        let published = before.iter().any(|n| n == MANIFEST);
        if self.options.force || self.options.restart && !published && self.state.has("plan").await? {
            return Ok(());
        }
        let (what, hint) = match (published, self.options.restart) {
            (true, true) => ("a finished merge", "merge again with --restart --force: the model there is replaced"),
            (true, false) => ("another merge", "choose another folder, or replace what is there with --force"),
            (false, _) => {
                ("files that shardfuse did not write", "choose another folder, or replace what is there with --force")
            }
        };
        Err(Error::new(Kind::OutputExists, format!("{} holds {what}, such as {first}", self.output)).hint(hint))
    }

    /// Reads what earlier coordinators wrote down and opens the uploads that are missing.
    async fn open(&self, claim: Claim, made_folder: bool) -> Result<ReadyMerge> {
        let tasks = tasks(&self.plan);
        let mut history = History::read(&self.state, &self.begun, &tasks, claim.epoch).await?;
        announced::drop_all(&*self.state.store, &self.output, &history.announced).await?;
        let mut journal = Writer::new(self.state.clone(), claim.clone());
        let opening = open::Opening {
            state: &self.state,
            output: &self.output,
            plan: &self.plan,
            tasks: &tasks,
            device_class: self.device_class,
        };
        let uploads = opening.uploads(&mut history, &mut journal).await?;
        let measured = opening.measured(&mut history).await?;
        let opened = Opened {
            stores: Arc::clone(&self.stores),
            plan: Arc::clone(&self.plan),
            digest: self.digest.clone(),
            tasks,
            output: self.output.clone(),
            state: self.state.clone(),
            uploads,
            claim,
            copies: self.plan.output.files.iter().map(copied).collect(),
            known: index::known(&self.stores, &self.plan).await?,
            replaces: self.state.has(REPLACES).await?,
            made_folder,
        };
        let resumed = Resumed { pieces: history.pieces, odd: history.odd, measured };
        Ok(ReadyMerge { opened, resumed, journal })
    }
}

/// For each part of a file whether the store is asked to copy it.
fn copied(file: &OutputFile) -> Vec<bool> {
    file.copies().iter().map(Option::is_some).collect()
}

/// A stored plan must be this one.
fn refuse_other(plan: &Plan, stored: &Plan, output: &Location) -> Result<()> {
    let Some(difference) = plan.difference(stored) else { return Ok(()) };
    let (kind, what) = match difference.input {
        true => (Kind::InputChanged, format!("{} changed since the merge in {output} began", difference.what)),
        false => {
            (Kind::OutputExists, format!("{output} holds an unfinished merge that differs in {}", difference.what))
        }
    };
    let way_back = match (difference.input, difference.version) {
        (true, true) => "put the input back as it was, with its time",
        (true, false) => "put the input back",
        (false, _) => "use the settings that it began with",
    };
    Err(Error::new(kind, format!("{what}: it was {}, it is {}", difference.stored, difference.now))
        .hint(format!("{way_back} to go on, or discard the unfinished merge with --restart")))
}
