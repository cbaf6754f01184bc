//! The model card in a folder where somebody may have written one.
//!
//! A `README.md` that a person wrote is not replaced, even with `--force`: the card goes beside it. What is there is not a person's
//! if shardfuse wrote it and nobody has changed it since, which a card tells by itself, or if the older output's manifest
//! has its digest. Such a file goes with the older output where the new one has none of its name.

use std::collections::BTreeSet;

use shardfuse_merge::Result;
use shardfuse_merge::output::SmallFile;
use shardfuse_merge::output::card::{BESIDE, CARD, MAX_CARD, is_kept, is_ours};
use shardfuse_merge::output::manifest::Manifest;
use shardfuse_store::{Location, Store};

use super::content::hash_file;
use super::settle::find;
use crate::failure::{io, join};
use crate::tombstone;

/// The digest of a file in the place of the plan's card that is no unchanged card of shardfuse; `None` if there is none. Of one that is
/// longer than any card, the digest is empty. It is asked before an older output is taken away.
pub(super) async fn in_its_place(
    store: &dyn Store,
    output: &Location,
    sidecars: &[(String, SmallFile)],
) -> Result<Option<String>> {
    let is_card =
        |(name, file): &(String, SmallFile)| matches!(file, SmallFile::Text(text) if name == CARD && is_ours(text));
    if !sidecars.iter().any(is_card) {
        return Ok(None);
    }
    let at = join(output, CARD)?;
    let Some(there) = find(store, &at).await? else { return Ok(None) };
    if there.size > MAX_CARD {
        return Ok(Some(String::new()));
    }
    let (bytes, _) = store.get(&at, MAX_CARD).await.map_err(io)?;
    let ours = is_ours(&String::from_utf8_lossy(&bytes));
    Ok((!ours).then(|| blake3::hash(&bytes).to_hex().to_string()))
}

/// Whether the older output had this card, so that no person wrote it.
pub(super) fn was_of(older: &Manifest, digest: &str) -> bool {
    older.files.iter().any(|file| file.name == CARD && file.blake3.as_deref() == Some(digest))
}

/// The cards of an older output that the new one does not write: of the listed names, those that no person wrote.
pub(super) async fn stale<'a>(
    store: &dyn Store,
    output: &Location,
    (listed, written): (&'a BTreeSet<String>, &BTreeSet<&str>),
    older: Option<&Manifest>,
) -> Result<Vec<&'a str>> {
    let is_card = |name: &str| name == CARD || name == BESIDE || is_kept(name);
    let mut stale = Vec::new();
    for name in listed.iter().map(String::as_str).filter(|name| is_card(name) && !written.contains(name)) {
        if is_nobodys(store, &join(output, name)?, name, older).await? {
            stale.push(name);
        }
    }
    Ok(stale)
}

/// Whether no person wrote this file: it is a card, a tombstone, or as the older output's manifest says.
async fn is_nobodys(store: &dyn Store, at: &Location, name: &str, older: Option<&Manifest>) -> Result<bool> {
    let Some(there) = find(store, at).await? else { return Ok(false) };
    if there.size <= MAX_CARD {
        let (bytes, _) = store.get(at, MAX_CARD).await.map_err(io)?;
        if tombstone::is_tombstone(&bytes) || is_ours(&String::from_utf8_lossy(&bytes)) {
            return Ok(true);
        }
    }
    let listed = older.and_then(|older| older.files.iter().find(|file| file.name == name));
    let Some(listed) = listed.filter(|file| file.size == there.size) else { return Ok(false) };
    let hash = hash_file(store, at, there.size, Some(&there.pin)).await?;
    Ok(Some(hash.to_hex().as_str()) == listed.blake3.as_deref())
}
