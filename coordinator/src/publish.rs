//! Publishing: the output becomes visible in an order that never shows a loadable half.
//!
//! With `--force` tombstones take the places of the old manifest, index and config.json first (`publish::older`). Then the
//! weights are completed, then come sidecars, index, config.json and, last, the manifest `shardfuse.json`. A loader such
//! as transformers fails on the folder until config.json is there, at every step. Each step can be done again: a
//! coordinator that is killed in the middle publishes once more from the start. Then the state goes.
//!
//! **Two coordinators.** Every file, of whatever size, comes into its place by the completion of an upload that the
//! journal names (`publish::announce`); a later coordinator drops those of earlier ones. So what a coordinator still does that
//! was stopped for long, at whatever step, changes nothing. The state is sealed by the epoch above before it goes: if two
//! coordinators reach the end together, one of them fails with `output_busy`.
//!
//! **Whose file.** A completion is believed if the object that is there afterwards has the length of the file and the
//! version that the completion named. Else the answer was lost, somebody else wrote there, or the store said what is not
//! so: then the file is read and held against the digest of its parts, and one that differs is made again.
//!
//! **Back to work.** If a store does not make a file of the parts that it took, those parts are journaled as worth nothing,
//! and the end is `parts_lost`: admitted once more, the merge makes that file again under a new upload.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, stream};
use shardfuse_merge::inventory::ObjectId;
use shardfuse_merge::output::card::{BESIDE, CARD};
use shardfuse_merge::output::manifest::{FORMAT, MANIFEST, Manifest, ManifestFile};
use shardfuse_merge::output::{OutputFile, SmallFile};
use shardfuse_merge::plan::task::Work;
use shardfuse_merge::statistic::survival::Survived;
use shardfuse_merge::{DeviceClass, Error, Kind, Result};
use shardfuse_store::{ErrorKind, Location, PartId, Store, settled};
use tracing::warn;

use crate::clean::remove;
use crate::failure::{io, join};
use crate::journal::{PieceRecord, Record, Writer};
use crate::opened::Opened;
use crate::state::Claim;

mod announce;
mod card;
mod content;
mod older;
mod settle;

pub use content::{Content, Known, Part, hash_file};

use announce::Publication;
use settle::{CONCURRENT, Expected, find, settle};

/// The largest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 1 << 30;
/// The manifest of an output, if there is one that can be read.
pub async fn manifest(store: &dyn Store, output: &Location) -> Result<Option<Manifest>> {
    let parse = |bytes: &[u8]| serde_json::from_slice(bytes);
    match settled::read(store, &join(output, MANIFEST)?, MAX_MANIFEST, parse).await {
        Ok(read) => Ok(read.ok()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io(e)),
    }
}

/// Whether every file of a manifest is there with its size.
pub async fn complete(store: &dyn Store, output: &Location, manifest: &Manifest) -> Result<bool> {
    for file in &manifest.files {
        if !is_published(store, &join(output, &file.name)?, file.size).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a file of this size is at its place.
pub async fn is_published(store: &dyn Store, at: &Location, size: u64) -> Result<bool> {
    Ok(find(store, at).await?.is_some_and(|meta| meta.size == size))
}

/// How a merge is published.
pub struct Publishing<'a> {
    /// The program, as the manifest names it.
    pub made_by: String,
    /// The class of the devices that computed it.
    pub device_class: &'a DeviceClass,
    /// What the manifest says beside the files.
    pub notes: Vec<String>,
    /// How much of each delta survived where weights were encoded again.
    pub survived: Vec<Survived>,
    /// Whether parts were verified. Then the files must hold the bytes that were verified, see `complete_one`.
    pub verified: bool,
}

/// Publishes a merge whose pieces are all journaled.
pub async fn publish(
    opened: &Opened,
    pieces: &BTreeMap<(u32, u32), PieceRecord>,
    journal: &mut Writer,
    how: Publishing<'_>,
) -> Result<Manifest> {
    let store = opened.stores.open(&opened.output);
    let store = &*store;
    opened.hold().await?;
    let mut publication = Publication::new(opened, store, journal);
    let Publishing { made_by, device_class, mut notes, survived, verified } = how;
    let in_place = card::in_its_place(store, &opened.output, &opened.plan.output.sidecars).await?;
    let older = match opened.replaces || in_place.is_some() {
        true => manifest(store, &opened.output).await?,
        false => None,
    };
    let older = older.as_ref();
    let beside = in_place.is_some_and(|digest| !older.is_some_and(|older| card::was_of(older, &digest)));
    if beside {
        notes.push(format!("{CARD} in the output is not of shardfuse and stays: the model card is {BESIDE}"));
    }
    let published = make_visible(&mut publication, pieces, (verified, beside, older), |files| Manifest {
        format: FORMAT,
        made_by,
        plan: opened.digest.clone(),
        device_class: device_class.to_string(),
        spec: opened.plan.spec.clone(),
        lineage: opened.plan.lineage.clone(),
        inputs: opened.plan.objects.clone(),
        files,
        notes,
        survived,
    })
    .await;
    let manifest = match published {
        Ok(manifest) => manifest,
        Err(e) => {
            publication.drop_announced().await;
            return Err(e);
        }
    };
    let seal = opened.state.seal(&opened.claim).await?;
    if seal.is_none() {
        opened.hold().await?;
    }
    // The output is whole and sealed: what cannot be removed now is no failure of the merge.
    if let Err(error) = tidy(opened, store, seal.as_ref()).await {
        warn!(output = %opened.output, %error, "published; what is left of the state goes with the next run, or with shardfuse clean");
    }
    Ok(manifest)
}

/// Everything that a reader sees, in its order.
async fn make_visible(
    publication: &mut Publication<'_>,
    pieces: &BTreeMap<(u32, u32), PieceRecord>,
    (verified, beside, older): (bool, bool, Option<&Manifest>),
    manifest: impl FnOnce(Vec<ManifestFile>) -> Manifest,
) -> Result<Manifest> {
    let opened = publication.opened;
    if opened.replaces {
        older::take_away(publication, older).await?;
    }
    let mut files = complete_all(publication, pieces, verified).await?;
    let output = &opened.plan.output;
    let index = output.index.as_ref().map(|(name, text)| (name.as_str(), SmallFile::Text(text.clone())));
    let sidecars = output.sidecars.iter().map(|(name, file)| match name.as_str() {
        CARD if beside => (BESIDE, file.clone()),
        name => (name, file.clone()),
    });
    let small: Vec<(&str, SmallFile)> = sidecars.chain(index).chain([("config.json", output.config.clone())]).collect();
    let sized: Vec<(&str, u64)> = small.iter().map(|(name, file)| (*name, size(opened, file))).collect();
    for (announced, (name, file)) in publication.announce(&sized).await?.iter().zip(&small) {
        if *name == "config.json" {
            opened.hold().await?;
        }
        files.push(publication.small(announced, file).await?);
    }
    let manifest = manifest(files);
    let mut text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::new(Kind::Internal, e.to_string()))?;
    text.push(b'\n');
    for announced in publication.announce(&[(MANIFEST, text.len() as u64)]).await? {
        publication.put(&announced, Bytes::copy_from_slice(&text)).await?;
    }
    Ok(manifest)
}

/// The length of a small file, in bytes.
fn size(opened: &Opened, file: &SmallFile) -> u64 {
    match file {
        SmallFile::Text(text) => text.len() as u64,
        SmallFile::Copy(ObjectId(id)) => opened.plan.objects[*id as usize].size,
    }
}

/// Removes the state, and what a killed run left of a file on its way.
async fn tidy(opened: &Opened, store: &dyn Store, seal: Option<&Claim>) -> Result<()> {
    if let Some(seal) = seal {
        remove::sealed(&opened.state, seal).await?;
    }
    store.sweep(&opened.output).await.map_err(io)
}

/// Completes every weight file. Files whose parts the store does not take are journaled as dropped (`parts_lost`).
async fn complete_all(
    publication: &mut Publication<'_>,
    pieces: &BTreeMap<(u32, u32), PieceRecord>,
    verified: bool,
) -> Result<Vec<ManifestFile>> {
    let (opened, store) = (publication.opened, publication.store);
    let mut parts = Vec::new();
    for file in 0..opened.plan.output.files.len() as u32 {
        parts.push(parts_of(opened, file, pieces)?);
    }
    let completed: Vec<Result<Completed>> = stream::iter((0u32..).zip(parts))
        .map(|(file, parts)| async move { complete_one(opened, file, &parts, verified).await })
        .buffered(CONCURRENT)
        .boxed()
        .collect()
        .await;
    let mut files = Vec::new();
    let mut lost = None;
    for (file, completed) in (0u32..).zip(completed) {
        match completed? {
            Completed::Whole(whole) => files.push(whole),
            Completed::Dropped(why) => {
                opened.hold().await?;
                let at = join(&opened.output, &opened.plan.output.files[file as usize].name)?;
                warn!(file = %at, %why, "the store makes no file of its parts, which are made again");
                publication.journal.append(Record::Dropped { file }).await?;
                store.abort(&at, &opened.uploads[file as usize]).await.map_err(io)?;
                lost.get_or_insert(format!("the parts of {at} must be made again: {why}"));
            }
        }
    }
    match lost {
        Some(why) => {
            Err(Error::new(Kind::PartsLost, why).hint("run the same command again: it goes on where it stopped"))
        }
        None => Ok(files),
    }
}

/// How a completion ended.
enum Completed {
    /// The file is in place.
    Whole(ManifestFile),
    /// It cannot be made of these parts, and why.
    Dropped(String),
}

/// Completes a weight file of the parts whose receipts were accepted.
///
/// A worker that lost its lease may still put a part that another worker has put and had accepted. The bytes are the same,
/// unless the late worker's memory flips bits. Where an id names the bytes of a part, a completion from the accepted ids then
/// fails, and the file is made again. On a file system an id names only the place of a part, so nothing shows it: a file whose
/// parts were verified is read once it is complete and its upload takes no more parts.
async fn complete_one(opened: &Opened, number: u32, parts: &[&PieceRecord], verified: bool) -> Result<Completed> {
    let file = &opened.plan.output.files[number as usize];
    let at = join(&opened.output, &file.name)?;
    let content = content_of(opened, file, parts)?;
    let ids: Vec<(u32, PartId)> = parts.iter().map(|p| (p.piece, PartId::new(&p.store_id))).collect();
    opened.hold().await?;
    let read_back = verified && at.scheme().has_part_ids_of_places();
    let expected = Expected { content: &content, read_back };
    Ok(match settle(&opened.stores, &at, &opened.uploads[number as usize], &ids, expected).await? {
        None => Completed::Whole(content.entry(&file.name, opened.plan.spec.part_size)),
        Some(why) => Completed::Dropped(why),
    })
}

/// What a file must hold by the receipts of its parts.
fn content_of(opened: &Opened, file: &OutputFile, records: &[&PieceRecord]) -> Result<Content> {
    let mut parts = Vec::with_capacity(records.len());
    for ((bytes, copy), record) in file.cut.parts.iter().zip(file.copies()).zip(records) {
        let known = match (record.chaining, copy) {
            (Some(chaining), _) => Known::Digest(*chaining.as_bytes()),
            (None, Some((ObjectId(id), range))) => {
                let object = &opened.plan.objects[id as usize];
                Known::Copy { url: object.url.clone(), pin: object.pin.clone(), from: range.start }
            }
            (None, None) => {
                let what = format!("part {} of {} has no digest and is no copy", record.piece, file.name);
                return Err(Error::new(Kind::Internal, what));
            }
        };
        parts.push(Part { bytes, known });
    }
    Ok(Content::of(file.size, parts))
}

fn parts_of<'a>(
    opened: &Opened,
    file: u32,
    pieces: &'a BTreeMap<(u32, u32), PieceRecord>,
) -> Result<Vec<&'a PieceRecord>> {
    let mut parts = Vec::new();
    for (task, t) in opened.tasks.iter().enumerate() {
        let Work::Fill { file: f, .. } = t.work else { continue };
        if f != file {
            continue;
        }
        for piece in t.work.pieces() {
            let record = pieces.get(&(task as u32, piece));
            parts.push(record.ok_or_else(|| {
                Error::new(Kind::Internal, format!("part {piece} of file {file} has no receipt at publication"))
            })?);
        }
    }
    Ok(parts)
}
