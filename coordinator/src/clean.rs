//! Removing what an unfinished merge left: its uploads, its state, and the folder if nothing else is in it.

use std::sync::Arc;

use shardfuse_merge::output::manifest::MANIFEST;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{ErrorKind, Location, Lock, Store, Stores, UploadId};

use crate::failure::{io, join};
use crate::journal::{self, Record, Writer};
use crate::opened::Opened;
use crate::state::{self, OutputState, Standing, now};

pub(crate) mod remove;
#[cfg(test)]
mod tests;

pub(crate) use remove::discard;

/// For how many seconds after its last record a coordinator is taken to be at work where no lock tells, unless it wrote that it
/// stopped. Far longer than a part takes, and than clocks of two machines differ.
const QUIET: u64 = 15 * 60;

/// An upload that a journal names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The file that it was to become, relative to the output.
    pub file: String,
    /// The store's id of it.
    pub id: String,
    /// The bytes that it was to have.
    pub size: u64,
}

/// What lies in an output beside published files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Whether there is a state folder.
    pub state: bool,
    /// Objects of the state, and their bytes.
    pub objects: (u64, u64),
    /// Uploads that are there.
    pub uploads: Vec<Upload>,
    /// Files that may have an upload whose id was never written down.
    pub unknown: Vec<String>,
    /// Why the journal cannot be read, where that is so: then its uploads stay unknown.
    pub unreadable: Option<String>,
    /// Files of the merge that are at their place already, without a manifest: publication was interrupted, or they are
    /// older files of the same names. They stay.
    pub in_place: Vec<String>,
    /// Tombstones of an interrupted publication. Nothing else is left of the older files in whose places they are.
    pub tombstones: Vec<String>,
    /// Seconds since a coordinator last wrote something; `None` if the last one stopped in order.
    pub quiet: Option<u64>,
    /// Whether a process holds the output's lock; `None` where there are no locks.
    pub locked: Option<bool>,
}

impl Leftovers {
    /// Whether a coordinator seems to be at work: a lock tells, else the age of what it wrote last.
    pub fn busy(&self) -> bool {
        self.state && self.locked.unwrap_or_else(|| self.quiet.is_some_and(|seconds| seconds < QUIET))
    }
}

/// Looks at what a merge left in an output. Changes nothing.
pub async fn survey(stores: &Stores, output: &Location) -> Result<Leftovers> {
    let store = stores.open(output);
    state::links(&*store, output).await?;
    let state = OutputState::of(Arc::clone(&store), output)?;
    let objects = store.list(&state.at).await.map_err(io)?;
    let mut found = Leftovers {
        state: !objects.is_empty(),
        objects: (objects.len() as u64, objects.iter().map(|o| o.size).sum()),
        tombstones: remove::tombstones(&*store, output).await?.into_iter().map(|(name, _)| name).collect(),
        ..Leftovers::default()
    };
    if found.state {
        found.locked = is_locked(&*store, output).await?;
    }
    let (plan, history) = match journal::read(&state).await {
        Ok(Some(read)) => read,
        Ok(None) => return Ok(found),
        Err(e) => {
            found.unreadable = Some(e.to_string());
            return Ok(found);
        }
    };
    found.quiet = (!history.closed).then(|| now().saturating_sub(history.last));
    let name = |file: &u32| plan.output.files.get(*file as usize).map(|f| (f.name.clone(), f.size));
    found.unknown = history.unknown.iter().filter_map(|f| name(f).map(|n| n.0)).collect();
    found.unknown.extend(history.unannounced.iter().cloned());
    let of_files =
        history.uploads.iter().filter_map(|(file, id)| name(file).map(|(file, size)| (file, size, id.clone())));
    for (file, size, id) in of_files.chain(history.announced.iter().cloned()) {
        if store.probe(&join(output, &file)?, &UploadId::new(&id)).await.map_err(io)? {
            found.uploads.push(Upload { file, id, size });
        }
    }
    let listed = store.list(output).await.map_err(io)?;
    if !listed.iter().any(|e| e.name == MANIFEST) {
        let ours = |n: &str| plan.output.files.iter().any(|f| f.name == n);
        found.in_place = listed.into_iter().map(|e| e.name).filter(|n| ours(n)).collect();
    }
    Ok(found)
}

/// Whether a process holds the lock of an output; `None` where there are no locks.
async fn is_locked(store: &dyn Store, output: &Location) -> Result<Option<bool>> {
    Ok(match store.lock(output).await.map_err(io)? {
        Lock::Held(_) => Some(false),
        Lock::Taken => Some(true),
        Lock::Unsupported => None,
    })
}

/// Removes what [`survey`] finds. Unless `force`, not while a coordinator seems to be at work (`output_busy`).
///
/// A coordinator that is at work nevertheless finds its epoch gone, and neither publishes nor removes anything.
pub async fn clean(stores: &Stores, output: &Location, force: bool) -> Result<Leftovers> {
    let found = survey(stores, output).await?;
    if found.busy() && !force {
        let busy = |text: String| Error::new(Kind::OutputBusy, text);
        return Err(match (found.locked, found.quiet) {
            (None, Some(quiet)) => busy(format!(
                "a shardfuse seems to be at work on {output}: it wrote something {quiet} s ago, and not that it stopped"
            ))
            .hint(format!(
                "stop it first, or wait until it has been quiet for {QUIET} s, or clean all the same with --force"
            )),
            _ => busy(format!("a shardfuse is at work on {output}, on this machine"))
                .hint("stop it first, or clean all the same with --force"),
        });
    }
    let store = stores.open(output);
    let state = OutputState::of(Arc::clone(&store), output)?;
    if found.state {
        discard(&state, output).await?;
    }
    for (name, pin) in remove::tombstones(&*store, output).await? {
        match store.delete_if(&join(output, &name)?, &pin).await {
            // A merge that began meanwhile has put something else there.
            Err(e) if e.kind() != ErrorKind::Changed => return Err(io(e)),
            _ => {}
        }
    }
    // On a file system: what interrupted small writes left, and the folder itself if it is empty now.
    store.sweep(output).await.map_err(io)?;
    store.remove_empty_dir(output).await.map_err(io)?;
    Ok(found)
}

/// Ends a merge for good: drops its uploads and removes its state and, if the merge made it, the folder. For a merge that
/// failed in a way that would be the same the next time, or that is cancelled.
///
/// A coordinator that lost its place removes nothing of the other's (`output_busy`). Only if the state is gone altogether
/// are its uploads dropped, since then nobody else knows them.
pub async fn abandon(opened: &Opened) -> Result<()> {
    let store = opened.stores.open(&opened.output);
    let sealed = opened.state.seal(&opened.claim).await?;
    if sealed.is_none() && opened.state.standing(&opened.claim).await? == Standing::TakenOver {
        return opened.hold().await;
    }
    for (file, upload) in opened.plan.output.files.iter().zip(&opened.uploads) {
        store.abort(&join(&opened.output, &file.name)?, upload).await.map_err(io)?;
    }
    if let Some(seal) = sealed {
        remove::sealed(&opened.state, &seal).await?;
        if opened.made_folder {
            store.remove_empty_dir(&opened.output).await.map_err(io)?;
        }
    }
    Ok(())
}

/// The failure of a coordinator that lost its place; `None` if it still has it, or if that cannot be told. If the state is
/// gone altogether, its uploads are dropped, since nobody else knows them.
pub async fn displaced(opened: &Opened) -> Option<Error> {
    if opened.state.standing(&opened.claim).await.ok()? == Standing::Gone {
        for (file, upload) in opened.plan.output.files.iter().zip(&opened.uploads) {
            let at = join(&opened.output, &file.name).ok()?;
            // Best effort: the failure to tell is the other one.
            let _ = opened.state.store.abort(&at, upload).await;
        }
        let _ = forget(opened).await;
    }
    opened.hold().await.err().filter(|e| e.kind() == Kind::OutputBusy)
}

/// Removes what this coordinator wrote into its journal after the state was gone: nobody would read it.
async fn forget(opened: &Opened) -> Result<()> {
    let (state, store) = (&opened.state, &opened.state.store);
    store.delete_tree(&state.place(&journal::folder(&opened.claim))?).await.map_err(io)?;
    store.remove_empty_dir(&state.place(journal::FOLDER)?).await.map_err(io)?;
    store.remove_empty_dir(&state.at).await.map_err(io)
}

/// Writes down that a coordinator stops in order, so that nobody takes it to be at work. What is finished stays.
pub async fn leave(opened: &Opened, journal: Option<Writer>) {
    let Some(mut journal) = journal else { return };
    // Only for the convenience of `clean`: that it cannot be written is no failure of its own.
    if opened.state.standing(&opened.claim).await.is_ok_and(|s| s == Standing::Holds) {
        let _ = journal.append(Record::Closed {}).await;
    }
}
