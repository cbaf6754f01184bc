//! Admission: whether a merge may begin in an output, goes on from an earlier start, or is done already.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::manifest::{MANIFEST, Manifest};
use shardfuse_merge::plan::task::{Measured, Task, Work, tasks};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{Location, Store, Stores, UploadId, digest};
use tracing::info;

use crate::failure::{io, join, location};
use crate::hub::device::other_class;
use crate::journal::{History, PieceRecord, Record, STATE, State, Writer};
use crate::persist::Measuring;
use crate::{equal, publish};

/// Says that the merge replaces an older output.
const REPLACES: &str = "replaces";

/// What the user allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Discard an unfinished merge that is there.
    pub restart: bool,
    /// Replace an output that is not this merge.
    pub force: bool,
}

/// A merge that may run.
#[derive(Debug)]
pub struct Ready {
    /// The stores.
    pub stores: Arc<Stores>,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Its digest.
    pub digest: String,
    /// Its tasks.
    pub tasks: Vec<Task>,
    /// The output's folder.
    pub output: Location,
    /// The state below it.
    pub state: State,
    /// The upload of each file.
    pub uploads: Vec<UploadId>,
    /// This coordinator's epoch.
    pub epoch: u64,
    /// Finished pieces.
    pub done: HashMap<(u32, u32), PieceRecord>,
    /// Measurements that are whole.
    pub measured: Vec<Measured>,
    /// The journal, until the driver takes it.
    pub journal: Option<Writer>,
    /// Whether an older output is replaced.
    pub replaces: bool,
    /// Whether the output's folder was made by this merge.
    pub made_folder: bool,
}

/// What admission found.
#[derive(Debug)]
pub enum Admitted {
    /// The merge may run.
    Ready(Box<Ready>),
    /// The output is this very merge, finished.
    Finished(Box<Manifest>),
}

/// Opens the output for a plan. The merge will be done by workers of `device_class`.
pub async fn admit(stores: Arc<Stores>, plan: Plan, device_class: &str, options: Options) -> Result<Admitted> {
    let output = location(&plan.spec.output)?;
    let store = stores.open(&output);
    store.check_output(&output).await.map_err(io)?;
    let state = State::of(Arc::clone(&store), &output)?;
    let digest = plan.digest();
    let before: Vec<String> = store.list(&output).await.map_err(io)?.into_iter().map(|e| e.name).collect();
    let ours = |name: &String| name.starts_with(&format!("{STATE}/"));
    let foreign: Vec<&String> = before.iter().filter(|n| !ours(n)).collect();

    let stored = if options.restart { None } else { state.plan().await? };
    if let Some(stored) = &stored {
        refuse_other(&plan, stored, &output)?;
        info!(%output, "going on with an unfinished merge");
    } else {
        if let Some(manifest) = publish::manifest(&*store, &output).await?
            && manifest.plan == digest
            && !options.restart
            && publish::complete(&*store, &output, &manifest).await?
        {
            return Ok(Admitted::Finished(Box::new(manifest)));
        }
        if let Some(first) = foreign.first()
            && !options.force
            && !(options.restart && (before.iter().any(|n| n == MANIFEST) || state.plan().await?.is_some()))
        {
            let what = if before.iter().any(|n| n == MANIFEST) { "another merge" } else { "files that are not ours" };
            return Err(Error::new(Kind::OutputExists, format!("{output} holds {what}, such as {first}"))
                .hint("choose another folder, or replace what is there with --force"));
        }
        check_space(&*store, &output, &plan, options).await?;
        equal::check(&stores, &plan).await?;
        discard(&state, &*store).await?;
        if !foreign.is_empty() {
            // Noted before the plan is there: only what was asked for is cleared away, also after a kill.
            state.put(REPLACES, Bytes::from_static(b"1\n")).await?;
        }
    }
    let replaces = state.get(REPLACES).await?.is_some();
    let history = if stored.is_some() { state.history().await? } else { History::default() };
    if let Some(begun) = history.device_class.as_deref().filter(|c| *c != device_class)
        && !history.pieces.is_empty()
    {
        return Err(other_class(begun, device_class));
    }
    let opened = open(&state, &*store, &output, &plan, device_class, history, stored.is_some()).await;
    let (tasks, uploads, done, epoch, journal, measured) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            // Nothing half-begun stays behind an output that cannot be opened.
            if stored.is_none() {
                let _ = discard(&state, &*store).await;
                if foreign.is_empty() {
                    let _ = store.remove_empty_dir(&output).await;
                }
            }
            return Err(e);
        }
    };
    Ok(Admitted::Ready(Box::new(Ready {
        stores,
        digest,
        tasks,
        output,
        state,
        uploads,
        epoch,
        done,
        journal: Some(journal),
        measured,
        replaces,
        made_folder: foreign.is_empty(),
        plan: Arc::new(plan),
    })))
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
    Err(Error::new(kind, format!("{what}: it was {}, it is {}", difference.stored, difference.now))
        .hint("put the input back to go on, or discard the unfinished merge with --restart"))
}

/// Room for everything that is written, noticed before work starts where the store can tell.
async fn check_space(store: &dyn Store, output: &Location, plan: &Plan, options: Options) -> Result<()> {
    let need: u64 = plan.output.files.iter().map(|f| f.size).sum();
    let freed: u64 = match options.restart {
        true => store
            .list(output)
            .await
            .map_err(io)?
            .iter()
            .filter(|e| e.name.starts_with(&format!("{STATE}/")))
            .map(|e| e.size)
            .sum(),
        false => 0,
    };
    match store.space(output).await.map_err(io)? {
        Some(free) if free.saturating_add(freed) < need => {
            Err(Error::new(Kind::NoSpace, format!("{output} has {free} bytes free, the merge writes {need}"))
                .hint("make room, or name another folder with --output"))
        }
        _ => Ok(()),
    }
}

/// Removes a state folder with its uploads.
pub async fn discard(state: &State, store: &dyn Store) -> Result<()> {
    let Ok(Some(stored)) = state.plan().await else { return store.delete_tree(&state.at).await.map_err(io) };
    let history = state.history().await?;
    let output = location(&stored.spec.output)?;
    for (file, upload) in &history.uploads {
        if let Some(f) = stored.output.files.get(*file as usize) {
            store.abort(&join(&output, &f.name)?, &UploadId::new(upload)).await.map_err(io)?;
        }
    }
    store.delete_tree(&state.at).await.map_err(io)
}

type Opened = (Vec<Task>, Vec<UploadId>, HashMap<(u32, u32), PieceRecord>, u64, Writer, Vec<Measured>);

/// Takes an epoch, opens the uploads that are missing, and journals that.
async fn open(
    state: &State,
    store: &dyn Store,
    output: &Location,
    plan: &Plan,
    device_class: &str,
    mut history: History,
    resumed: bool,
) -> Result<Opened> {
    if !resumed && !state.create("plan", Bytes::from(plan.to_bytes())).await? {
        return Err(Error::new(Kind::OutputBusy, format!("another shardfuse has just begun a merge in {output}")));
    }
    let epoch = state.take_epoch(history.epoch).await?;
    let tasks = tasks(plan);
    let boot = store.boot_id(output).await.map_err(io)?;
    let rebooted = resumed && history.boot.is_some() && history.boot != boot;
    let mut uploads = Vec::with_capacity(plan.output.files.len());
    let mut fresh = Vec::new();
    for (number, file) in plan.output.files.iter().enumerate() {
        let number = number as u32;
        let at = join(output, &file.name)?;
        let live = match history.uploads.get(&number) {
            Some(id) => {
                let id = UploadId::new(id);
                let complete =
                    all_done(&tasks, number, &history) && publish::is_published(store, &at, file.size).await?;
                (store.probe(&at, &id).await.map_err(io)? || complete).then_some(id)
            }
            None => None,
        };
        let id = match live {
            Some(id) => {
                if rebooted {
                    recheck(plan, number, &tasks, store, &at, &id, &mut history).await?;
                }
                id
            }
            None => {
                let of_file: HashSet<u32> = tasks_of(&tasks, number).collect();
                history.pieces.retain(|(task, _), _| !of_file.contains(task));
                let id = store.begin(&at, file.size).await.map_err(io)?;
                fresh.push((number, id.as_str().to_owned()));
                id
            }
        };
        uploads.push(id);
        state.put(&format!("header/{number}"), Bytes::from(file.header())).await?;
    }
    let mut journal = Writer::new(state.clone(), epoch);
    journal.append(&Record::Opened { boot, uploads: fresh, device_class: Some(device_class.to_owned()) }).await?;
    let measured = measured(state, plan, &tasks, &mut history).await?;
    Ok((tasks, uploads, history.pieces, epoch, journal, measured))
}

fn tasks_of(tasks: &[Task], file: u32) -> impl Iterator<Item = u32> {
    let numbered = tasks.iter().enumerate();
    numbered.filter(move |(_, t)| matches!(t.work, Work::Fill { file: f, .. } if f == file)).map(|(i, _)| i as u32)
}

fn all_done(tasks: &[Task], file: u32, history: &History) -> bool {
    tasks_of(tasks, file)
        .all(|task| tasks[task as usize].work.pieces().all(|piece| history.pieces.contains_key(&(task, piece))))
}

/// After a reboot what was never synced may be lost: journaled parts are read again and held against their digests.
async fn recheck(
    plan: &Plan,
    number: u32,
    tasks: &[Task],
    store: &dyn Store,
    at: &Location,
    id: &UploadId,
    history: &mut History,
) -> Result<()> {
    let size = plan.output.files[number as usize].size;
    let part_size = plan.spec.part_size;
    let of_file: HashSet<u32> = tasks_of(tasks, number).collect();
    let keys: Vec<(u32, u32)> = history.pieces.keys().filter(|(task, _)| of_file.contains(task)).copied().collect();
    for key in keys {
        let offset = u64::from(key.1) * part_size;
        let len = part_size.min(size - offset);
        let intact = match store.read_part(at, id, offset, vec![0; len as usize]).await {
            Ok(bytes) => digest::chaining_value(&bytes, offset, size) == *history.pieces[&key].chaining.as_bytes(),
            Err(_) => false,
        };
        if !intact {
            info!(file = %at, part = key.1, "a part did not survive the reboot and is made again");
            history.pieces.remove(&key);
        }
    }
    Ok(())
}

/// Measurements of which every block is journaled; blocks whose sums are gone are measured again.
async fn measured(state: &State, plan: &Plan, tasks: &[Task], history: &mut History) -> Result<Vec<Measured>> {
    let measuring = Measuring::new(state.clone(), plan, tasks);
    let mut facts = Vec::new();
    for (task, t) in tasks.iter().enumerate() {
        let Work::Measure { id, .. } = t.work else { continue };
        for block in t.work.pieces() {
            let key = (task as u32, block);
            if history.pieces.contains_key(&key) && state.get(&format!("measured/{}/{block}", id.0)).await?.is_none() {
                history.pieces.remove(&key);
            }
        }
        if t.work.pieces().start == 0 {
            facts.extend(measuring.fold(id).await?);
        }
    }
    Ok(facts)
}
