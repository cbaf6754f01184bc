//! The model card in a folder where somebody may have written one.
//!
//! A `README.md` that a person wrote is not replaced, even with `--force`: the card goes beside it. What is there is not a person's
//! if shardfuse wrote it and nobody has changed it since, which a card tells by itself, or if the older output's manifest
//! has its digest.

use shardfuse_merge::Result;
use shardfuse_merge::output::SmallFile;
use shardfuse_merge::output::card::{CARD, MAX_CARD, is_ours};
use shardfuse_merge::output::manifest::Manifest;
use shardfuse_store::{Location, Store};

use super::settle::find;
use crate::failure::{io, join};

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
    older.files.iter().any(|file| file.name == CARD && file.blake3 == digest)
}
