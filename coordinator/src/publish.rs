//! Publishing: the output becomes visible in an order that never shows a loadable half.
//!
//! With `--force` the old manifest, index and config.json go first. Then the weights are completed, then come sidecars,
//! index, config.json and, last, the manifest `shardfuse.json`. A loader such as transformers fails on the folder until
//! config.json is there, at every step. Each step can be done again: a coordinator that is killed in the middle
//! publishes once more from the start. Then the state goes.
//!
//! **Two coordinators.** The epoch is looked at again before anything is cleared, before each file is completed, before
//! config.json and before the manifest; and the state is sealed by the epoch above before it goes, so that of two which come
//! to the end together one is told so (`output_busy`).
//!
//! **Whose file.** What a store says of a completion may be lost, and a file of the same length may have been there before.
//! A completion that did not visibly put a new object in place is believed only after the file was read and held against
//! the digest of its parts.
//!
//! **Back to work.** If a store does not make a file of the parts that it took, those parts are journaled as worth nothing,
//! and the end is `parts_lost`: admitted once more, the merge makes that file again under a new upload.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_merge::checkpoint::sidecar;
use shardfuse_merge::plan::inventory::ObjectId;
use shardfuse_merge::plan::manifest::{FORMAT, MANIFEST, Manifest, ManifestFile};
use shardfuse_merge::plan::output::SmallFile;
use shardfuse_merge::plan::task::Work;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{ErrorKind, Location, Meta, PartId, Pin, Store, digest};
use tracing::warn;

use crate::admit::Ready;
use crate::clean::remove;
use crate::failure::{io, join, location};
use crate::journal::{PieceRecord, Record, Writer};

/// The largest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 1 << 30;
/// Bytes that are read at a time to digest a file, and how many such reads run ahead.
const CHUNK: (u64, usize) = (8 << 20, 4);
/// Files that are completed at a time.
const CONCURRENT: usize = 4;

/// The manifest of an output, if there is one that can be read.
pub async fn manifest(store: &dyn Store, output: &Location) -> Result<Option<Manifest>> {
    match store.get(&join(output, MANIFEST)?, MAX_MANIFEST).await {
        Ok((bytes, _)) => Ok(serde_json::from_slice(&bytes).ok()),
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

/// Publishes a merge of which every piece is journaled.
pub async fn publish(
    ready: &Ready,
    pieces: &BTreeMap<(u32, u32), PieceRecord>,
    journal: &mut Writer,
    device_class: &str,
    notes: Vec<String>,
) -> Result<Manifest> {
    let store = ready.stores.open(&ready.output);
    let store = &*store;
    ready.hold().await?;
    let (plan, output) = (&ready.plan, &ready.output);
    if ready.replaces {
        clear(ready, store).await?;
    }
    let mut files = complete_all(ready, store, pieces, journal).await?;
    for (name, file) in &plan.output.sidecars {
        files.push(small(ready, store, name, file).await?);
    }
    if let Some((name, text)) = &plan.output.index {
        files.push(small(ready, store, name, &SmallFile::Text(text.clone())).await?);
    }
    ready.hold().await?;
    files.push(small(ready, store, "config.json", &plan.output.config).await?);
    let manifest = Manifest {
        format: FORMAT,
        made_by: format!("shardfuse {}", env!("CARGO_PKG_VERSION")),
        plan: ready.digest.clone(),
        device_class: device_class.to_owned(),
        spec: plan.spec.clone(),
        inputs: plan.objects.clone(),
        files,
        notes,
    };
    let mut text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::new(Kind::Internal, e.to_string()))?;
    text.push(b'\n');
    ready.hold().await?;
    store.put(&join(output, MANIFEST)?, Bytes::from(text)).await.map_err(io)?;
    if !ready.state.seal(&ready.claim).await? {
        ready.hold().await?;
    }
    // The output is whole and sealed: what cannot be removed now is no failure of the merge.
    if let Err(error) = tidy(ready, store).await {
        warn!(%output, %error, "published; what is left of the state goes with the next run, or with shardfuse clean");
    }
    Ok(manifest)
}

/// Removes the state, and what a killed run left of a file on its way.
async fn tidy(ready: &Ready, store: &dyn Store) -> Result<()> {
    remove(&ready.state).await?;
    store.sweep(&ready.output).await.map_err(io)
}

/// Completes every weight file. Files whose parts the store does not take are journaled as dropped (`parts_lost`).
async fn complete_all(
    ready: &Ready,
    store: &dyn Store,
    pieces: &BTreeMap<(u32, u32), PieceRecord>,
    journal: &mut Writer,
) -> Result<Vec<ManifestFile>> {
    let mut parts = Vec::new();
    for file in 0..ready.plan.output.files.len() as u32 {
        parts.push(parts_of(ready, file, pieces)?);
    }
    let completed: Vec<Result<Completed>> = stream::iter((0u32..).zip(parts))
        .map(|(file, parts)| async move { complete_one(ready, store, file, &parts).await })
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
                ready.hold().await?;
                let at = join(&ready.output, &ready.plan.output.files[file as usize].name)?;
                warn!(file = %at, %why, "the store makes no file of its parts, which are made again");
                journal.append(Record::Dropped { file }).await?;
                store.abort(&at, &ready.uploads[file as usize]).await.map_err(io)?;
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

async fn complete_one(ready: &Ready, store: &dyn Store, number: u32, parts: &[&PieceRecord]) -> Result<Completed> {
    let file = &ready.plan.output.files[number as usize];
    let at = join(&ready.output, &file.name)?;
    let cvs: Vec<[u8; 32]> = parts.iter().map(|p| *p.chaining.as_bytes()).collect();
    let hash = blake3::Hash::from_bytes(digest::combine(&cvs));
    let ids: Vec<(u32, PartId)> = parts.iter().map(|p| (p.piece, PartId::new(&p.store_id))).collect();
    ready.hold().await?;
    let before = find(store, &at).await?;
    let told = store.complete(&at, &ready.uploads[number as usize], &ids, file.size).await;
    if let Err(e) = &told
        && matches!(e.kind(), ErrorKind::InvalidPart | ErrorKind::NoSuchUpload)
    {
        return Ok(Completed::Dropped(e.chain()));
    }
    let after = find(store, &at).await?;
    match (told, after) {
        (Ok(()), Some(after)) if after.size == file.size && before.as_ref() != Some(&after) => {}
        // The reply may be lost, or the file have been put there by a coordinator that was killed, or not by us at all.
        (told, Some(after)) if after.size == file.size => {
            if hash_file(store, &at, file.size, Some(&after.pin)).await? != hash {
                told.map_err(io)?;
                return Ok(Completed::Dropped("what is in place has another digest than they have".into()));
            }
        }
        (told, _) => {
            told.map_err(io)?;
            return Ok(Completed::Dropped("the store called it complete, and it is not there".into()));
        }
    }
    Ok(Completed::Whole(ManifestFile { name: file.name.clone(), size: file.size, blake3: hash.to_hex().to_string() }))
}

async fn find(store: &dyn Store, at: &Location) -> Result<Option<Meta>> {
    match store.head(at).await {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io(e)),
    }
}

/// Takes away what a loader would still find of an older output: weights, and the vocabulary files that the new output
/// does not write, since a loader may take a stale `tokenizer.model` beside a new `tokenizer.json`.
async fn clear(ready: &Ready, store: &dyn Store) -> Result<()> {
    let output = &ready.plan.output;
    let weights = output.files.iter().map(|f| f.name.as_str());
    let ours: Vec<&str> = weights.chain(output.sidecars.iter().map(|s| s.0.as_str())).collect();
    let first = [MANIFEST, "model.safetensors.index.json", "pytorch_model.bin.index.json", "config.json"];
    for name in first {
        store.delete(&join(&ready.output, name)?).await.map_err(io)?;
    }
    for entry in store.list(&ready.output).await.map_err(io)? {
        let name = entry.name.as_str();
        if (sidecar::is_model_weight(name) || sidecar::is_vocabulary(name)) && !ours.contains(&name) {
            store.delete(&join(&ready.output, &entry.name)?).await.map_err(io)?;
        }
    }
    Ok(())
}

fn parts_of<'a>(
    ready: &Ready,
    file: u32,
    pieces: &'a BTreeMap<(u32, u32), PieceRecord>,
) -> Result<Vec<&'a PieceRecord>> {
    let mut parts = Vec::new();
    for (task, t) in ready.tasks.iter().enumerate() {
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

async fn small(ready: &Ready, store: &dyn Store, name: &str, file: &SmallFile) -> Result<ManifestFile> {
    let at = join(&ready.output, name)?;
    let entry =
        |size: u64, hash: blake3::Hash| ManifestFile { name: name.to_owned(), size, blake3: hash.to_hex().to_string() };
    match file {
        SmallFile::Text(text) => {
            store.put(&at, Bytes::copy_from_slice(text.as_bytes())).await.map_err(io)?;
            Ok(entry(text.len() as u64, blake3::hash(text.as_bytes())))
        }
        SmallFile::Copy(ObjectId(id)) => {
            let object = &ready.plan.objects[*id as usize];
            let (from, pin) = (location(&object.url)?, Pin::new(&object.pin));
            ready.stores.copy(&from, &at, Some(&pin)).await.map_err(io)?;
            Ok(entry(object.size, hash_file(store, &at, object.size, None).await?))
        }
    }
}

/// BLAKE3 of a file, as `b3sum` prints it.
pub async fn hash_file(store: &dyn Store, at: &Location, size: u64, pin: Option<&Pin>) -> Result<blake3::Hash> {
    let (chunk, ahead) = CHUNK;
    let mut chunks = stream::iter((0..size).step_by(chunk as usize))
        .map(|offset| store.read(at, offset, vec![0; chunk.min(size - offset) as usize], pin))
        .buffered(ahead)
        .boxed();
    let mut hasher = blake3::Hasher::new();
    while let Some(bytes) = chunks.try_next().await.map_err(io)? {
        hasher.update(&bytes);
    }
    Ok(hasher.finalize())
}
