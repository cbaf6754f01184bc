//! Removing a state: the one that was sealed, and nothing of one that comes after it.
//!
//! A coordinator seals a state before it removes it, so that no other one continues with it. It may be stopped then for any
//! time, while others remove the state and begin the next merge under the same names. So it looks for its seal once it has a list
//! of what is there, and removes what tells coordinators apart only by the version or the name that it saw: epochs and
//! `replaces` hold a token, and so do the names of journals. Headers and measured sums go by their names, and where equal
//! bytes are one version a late removal may take an equal plan: a merge that loses those ends, and is begun again.
//!
//! The plan goes first: from then on there is no merge here, and an interruption leaves objects that the next one removes.
//! The epochs go last, the seal before all the others, so that one that lists them late does not find its seal beside the
//! epochs of another state.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_merge::Result;
use shardfuse_store::{EntryKind, ErrorKind, Location, Pin, Store, UploadId};

use crate::announced;
use crate::failure::{io, join};
use crate::journal::{self, History};
use crate::state::{Claim, OutputState, Taken, links};
use crate::tombstone;

/// Objects that are looked at or removed at a time.
const CONCURRENT: usize = 16;
/// What is removed by its name, after the plan.
const BY_NAME: [&str; 3] = ["header", "measured", "upload"];

/// Removes a state with its uploads, also that of another coordinator. One that is still at work stops at the epoch above its
/// own, which is taken first.
pub(crate) async fn discard(state: &OutputState, output: &Location) -> Result<()> {
    links(&*state.store, output).await?;
    let Ok(epochs) = state.epochs().await else {
        // An epoch that this version cannot read is no reason to keep what is to go.
        state.delete("plan").await?;
        return state.store.delete_tree(&state.at).await.map_err(io);
    };
    let seal = match epochs.iter().position(Taken::is_seal) {
        Some(at) => Some(Claim { epoch: at as u64 + 1, token: epochs[at].token.clone() }),
        None if epochs.is_empty() && !state.has("plan").await? => None,
        None => Some(state.take_epoch("", epochs.len() as u64).await?),
    };
    announced::drop_all(&*state.store, output, &History::announced(state, &epochs).await?).await?;
    // A plan or journal that this version cannot read names no uploads that it could drop.
    if let Ok(Some((plan, history))) = journal::read(state).await {
        for (file, upload) in &history.uploads {
            if let Some(f) = plan.output.files.get(*file as usize) {
                state.store.abort(&join(output, &f.name)?, &UploadId::new(upload)).await.map_err(io)?;
            }
        }
    }
    match seal {
        Some(seal) => sealed(state, &seal).await,
        None => remove(state, None).await,
    }
}

/// Removes the objects of the state that has this seal. Nothing is done if the seal is gone: then so is the state.
pub(crate) async fn sealed(state: &OutputState, seal: &Claim) -> Result<()> {
    remove(state, Some(seal)).await
}

/// Removes the objects of a sealed state, or without a seal what lies there without a plan and a first epoch. That can be a later
/// epoch: a coordinator took it when the state that it had read was removed already.
async fn remove(state: &OutputState, seal: Option<&Claim>) -> Result<()> {
    let listed = state.store.list(&state.at).await.map_err(io)?;
    let names = listed.iter().map(|entry| entry.name.as_str());
    let plan = match state.store.head(&state.place("plan")?).await {
        Ok(meta) => Some(meta.pin),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(io(e)),
    };
    let told_apart: Vec<&str> = names.clone().filter(|name| *name == "replaces" || number(name).is_some()).collect();
    let mut held: Vec<(&str, Pin)> = stream::iter(told_apart)
        .map(|name| async move { Ok(state.held(name).await?.map(|(_, pin)| (name, pin))) })
        .buffered(CONCURRENT)
        .boxed()
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await?;
    // After all the other looks: the epochs of another state come only when the seal is gone.
    let gone = match seal {
        Some(seal) => state.taken(seal.epoch).await?.is_none_or(|taken| taken.token != seal.token),
        // Somebody has begun a merge meanwhile.
        None => plan.is_some() || state.has("plan").await? || state.has("epoch/1").await?,
    };
    if gone {
        return Ok(());
    }
    if let Some(pin) = plan {
        state.delete_if("plan", &pin).await?;
    }
    let journals: BTreeSet<&str> =
        names.filter_map(|name| name.strip_prefix(journal::FOLDER)?.strip_prefix('/')?.split('/').next()).collect();
    let journals = journals.into_iter().map(|journal| format!("{}/{journal}", journal::FOLDER));
    for folder in BY_NAME.into_iter().map(str::to_owned).chain(journals) {
        state.store.delete_tree(&state.place(&folder)?).await.map_err(io)?;
    }
    // From the seal down, `replaces` before all of them.
    held.sort_by_key(|(name, _)| std::cmp::Reverse(number(name).unwrap_or(u64::MAX)));
    for (name, pin) in &held {
        state.delete_if(name, pin).await?;
    }
    state.store.remove_empty_dir(&state.at).await.map_err(io)
}

/// The tombstones in an output, with their versions.
pub(super) async fn tombstones(store: &dyn Store, output: &Location) -> Result<Vec<(String, Pin)>> {
    let listed = store.list(output).await.map_err(io)?;
    // Publication puts them into the top folder only. What lies behind links to folders is somebody else's.
    let small = listed
        .into_iter()
        .filter(|e| e.kind == EntryKind::File && e.size <= tombstone::LONGEST && !e.name.contains('/'));
    stream::iter(small)
        .map(|entry| async move {
            match store.get(&join(output, &entry.name)?, tombstone::LONGEST).await {
                Ok((bytes, meta)) if tombstone::is_tombstone(&bytes) => Ok(Some((entry.name, meta.pin))),
                Ok(_) => Ok(None),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
                Err(e) => Err(io(e)),
            }
        })
        .buffered(CONCURRENT)
        .boxed()
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await
}

/// The number of an epoch object.
fn number(name: &str) -> Option<u64> {
    name.strip_prefix("epoch/")?.parse().ok()
}
