//! Publishing: the output becomes visible in an order that never shows a loadable half.
//!
//! With `--force` the old manifest, index and config.json go first. Then the weights are completed, then come sidecars,
//! index, config.json and, last, the manifest `shardfuse.json`. A loader such as transformers fails on the folder until
//! config.json is there, at every step. Each step can be done again: a coordinator that is killed in the middle
//! publishes once more from the start. Then the journal goes.

use std::collections::BTreeMap;

use bytes::Bytes;
use shardfuse_merge::checkpoint::sidecar;
use shardfuse_merge::plan::inventory::ObjectId;
use shardfuse_merge::plan::manifest::{FORMAT, MANIFEST, Manifest, ManifestFile};
use shardfuse_merge::plan::output::SmallFile;
use shardfuse_merge::plan::task::Work;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{ErrorKind, Location, PartId, Pin, Store, digest};

use crate::admit::{Ready, discard};
use crate::failure::{io, join, location};
use crate::journal::PieceRecord;

/// The largest manifest that is read, in bytes.
const MAX_MANIFEST: u64 = 1 << 30;
/// Bytes that are read at a time to digest a file.
const CHUNK: u64 = 8 << 20;

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
    match store.head(at).await {
        Ok(meta) => Ok(meta.size == size),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io(e)),
    }
}

/// Publishes a merge of which every piece is journaled.
pub async fn publish(
    ready: &Ready,
    pieces: &BTreeMap<(u32, u32), PieceRecord>,
    device_class: &str,
    notes: Vec<String>,
) -> Result<Manifest> {
    let store = ready.stores.open(&ready.output);
    let store = &*store;
    ready.state.check_epoch(ready.epoch).await?;
    let (plan, output) = (&ready.plan, &ready.output);
    if ready.replaces {
        clear(ready, store).await?;
    }
    let mut files = Vec::new();
    for (number, file) in plan.output.files.iter().enumerate() {
        let parts = parts_of(ready, number as u32, pieces)?;
        let cvs: Vec<[u8; 32]> = parts.iter().map(|p| *p.chaining.as_bytes()).collect();
        let hash = blake3::Hash::from_bytes(digest::combine(&cvs));
        let at = join(output, &file.name)?;
        let ids: Vec<(u32, PartId)> = parts.iter().map(|p| (p.piece, PartId::new(&p.store_id))).collect();
        let resumed = !store.probe(&at, &ready.uploads[number]).await.map_err(io)?;
        store.complete(&at, &ready.uploads[number], &ids, file.size).await.map_err(io)?;
        if resumed && hash_file(store, &at, file.size, None).await? != hash {
            return Err(Error::new(
                Kind::OutputExists,
                format!("{at} was replaced by somebody else while the merge was published"),
            ));
        }
        files.push(ManifestFile { name: file.name.clone(), size: file.size, blake3: hash.to_hex().to_string() });
    }
    for (name, file) in &plan.output.sidecars {
        files.push(small(ready, store, name, file).await?);
    }
    if let Some((name, text)) = &plan.output.index {
        files.push(small(ready, store, name, &SmallFile::Text(text.clone())).await?);
    }
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
    store.put(&join(output, MANIFEST)?, Bytes::from(text)).await.map_err(io)?;
    discard(&ready.state, store).await?;
    // What a killed run left of a file on its way.
    store.sweep(output).await.map_err(io)?;
    Ok(manifest)
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
            store.copy(&from, &at, Some(&pin)).await.map_err(io)?;
            Ok(entry(object.size, hash_file(store, &at, object.size, None).await?))
        }
    }
}

/// BLAKE3 of a file, as `b3sum` prints it.
pub async fn hash_file(store: &dyn Store, at: &Location, size: u64, pin: Option<&Pin>) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buf = Vec::new();
    for offset in (0..size).step_by(CHUNK as usize) {
        buf.resize(CHUNK.min(size - offset) as usize, 0);
        buf = store.read(at, offset, buf, pin).await.map_err(io)?;
        hasher.update(&buf);
    }
    Ok(hasher.finalize())
}
