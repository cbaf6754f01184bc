//! Taking an older output away.
//!
//! What a loader would find of it is replaced by a tombstone ([`crate::tombstone`]), in one step each: the manifest, the
//! index and `config.json` first, then weights, and the vocabulary files that the new output does not write, since a
//! loader may take a stale `tokenizer.model` beside a new `tokenizer.json`. What the new output does not write is removed
//! then, on the condition that it still is that tombstone. So are cards that the older output had (`publish::card`). They go before
//! the manifest, which tells that nobody wrote them there.
//!
//! Why not simply a delete: a coordinator that is stopped before it would take away what another one has published since.
//! Nor is a delete on the condition of the version that was seen enough, since on S3 equal bytes are one version, and the
//! older `config.json` and the new one are often equal.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_merge::Result;
use shardfuse_merge::checkpoint::sidecar;
use shardfuse_merge::output::manifest::{MANIFEST, Manifest};
use shardfuse_store::ErrorKind;

use super::announce::{Announced, Publication};
use super::card;
use super::settle::CONCURRENT;
use crate::failure::io;
use crate::tombstone;

/// What tells a loader that a model is there. In this order it goes.
const FIRST: [&str; 4] = [MANIFEST, "model.safetensors.index.json", "pytorch_model.bin.index.json", "config.json"];

/// Takes away what a loader would still find, and the cards that the older output had.
pub(super) async fn take_away(publication: &mut Publication<'_>, older: Option<&Manifest>) -> Result<()> {
    let (opened, store) = (publication.opened, publication.store);
    let output = &opened.plan.output;
    let mut ours: BTreeSet<&str> = output.files.iter().map(|f| f.name.as_str()).collect();
    ours.extend(output.sidecars.iter().map(|s| s.0.as_str()));
    ours.extend(output.index.iter().map(|(name, _)| name.as_str()));
    ours.extend([MANIFEST, "config.json"]);
    // What an interrupted removal set aside is listed again.
    store.sweep(&opened.output).await.map_err(io)?;
    let listed: BTreeSet<String> =
        store.list(&opened.output).await.map_err(io)?.into_iter().map(|entry| entry.name).collect();
    let cards = card::stale(store, &opened.output, (&listed, &ours), older).await?;
    let stale = |name: &&str| (sidecar::is_model_weight(name) || sidecar::is_vocabulary(name)) && !ours.contains(name);
    let first = cards.into_iter().chain(FIRST.into_iter().filter(|name| listed.contains(*name)));
    let rest = listed.iter().map(String::as_str).filter(|name| !FIRST.contains(name)).filter(stale);
    let names: Vec<&str> = first.clone().chain(rest).collect();
    let sized: Vec<(&str, u64)> =
        names.iter().map(|name| (*name, tombstone::render(&opened.claim, name).len() as u64)).collect();
    let announced = publication.announce(&sized).await?;
    let (first, rest) = announced.split_at(first.count());
    for file in first {
        publication.put(file, tombstone::render(&opened.claim, &file.name)).await?;
    }
    let publication = &*publication;
    stream::iter(rest)
        .map(|file| publication.put(file, tombstone::render(&opened.claim, &file.name)))
        .buffer_unordered(CONCURRENT)
        .boxed()
        .try_for_each(|_| async { Ok(()) })
        .await?;
    for file in announced.iter().filter(|file| !ours.contains(file.name.as_str())) {
        remove(publication, file).await?;
    }
    Ok(())
}

/// Removes this coordinator's tombstone.
async fn remove(publication: &Publication<'_>, file: &Announced) -> Result<()> {
    let mine = tombstone::render(&publication.opened.claim, &file.name);
    let removed = match publication.store.get(&file.at, tombstone::LONGEST).await {
        Ok((bytes, meta)) if bytes == mine => publication.store.delete_if(&file.at, &meta.pin).await,
        Ok(_) => return Err(publication.lost(file, "something else is in its place").await),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() == ErrorKind::Changed => Err(publication.lost(file, &e.chain()).await),
        removed => removed.map_err(io),
    }
}
