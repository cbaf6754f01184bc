//! Objects in memory, with the behaviour of an object store: for tests and simulations.
//!
//! **Consistency.** As [`Store`] says; a lock makes every operation one step. Versions, upload ids and part ids are
//! numbered, so that two runs with the same calls give the same ids and a failing run can be replayed.
//!
//! **Uploads** behave as on S3: a part that is put again under its number replaces the former one and has another id if
//! its bytes differ; completing names each part by its id, and one that is not the last put is refused.
//!
//! **Equal bytes.** With [`Memory::with_pins_of_bytes`] a pin is made of the bytes, as the ETag is on S3: two objects of
//! equal bytes are one version.
//!
//! **Parts of pieces.** Any pieces of other objects become a part by themselves. [`Memory::with_copies`] makes the store as restricted as
//! another one, and [`Memory::with_refused_copies`] makes it promise more than it does.
//!
//! **Faults of real stores** can be asked for: a read that returns a mix of two versions ([`Memory::tear`]), and a completion
//! that is called a success although the upload is gone ([`Memory::with_false_completions`]).
//!
//! **Crash.** Nothing survives the process; within it, an object outlives whoever wrote it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::chunk::{Chunk, Copies};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::store::{Completion, Entry, Meta, PartSlot, Store};

/// The smallest part that is not the last, as on S3.
const LEAST_PART: usize = 5 << 20;

/// Objects in memory. The module's documentation says what holds.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
    /// Whether small parts are taken, which no real store does.
    small_parts: bool,
    /// Whether a pin is made of the bytes.
    pins_of_bytes: bool,
    /// Whether completing an upload that is gone is answered with success and an invented version.
    false_completions: bool,
    /// What it copies by itself; everything if nothing is said.
    copies: Option<Copies>,
    /// Whether it refuses every copy that it is asked for.
    refused_copies: bool,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Location, Object>,
    uploads: BTreeMap<String, Upload>,
    counter: u64,
    parts_put: u64,
    bytes_copied: u64,
    /// It says that it copies nothing, whatever it does.
    offers_none: bool,
    /// Overwrites that the next read of an object races.
    tears: BTreeMap<Location, Bytes>,
}

struct Object {
    bytes: Bytes,
    version: u64,
}

struct Upload {
    at: Location,
    parts: BTreeMap<u32, (PartId, Bytes)>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, which takes parts of any size: a simulation has no room for parts of 5 MiB.
    #[must_use]
    pub fn with_small_parts(self) -> Self {
        Self { small_parts: true, ..self }
    }

    /// The same, whose pins tell versions apart by their bytes alone.
    #[must_use]
    pub fn with_pins_of_bytes(self) -> Self {
        Self { pins_of_bytes: true, ..self }
    }

    fn pin(&self, object: &Object) -> Pin {
        match self.pins_of_bytes {
            true => Pin::new(part_id(&object.bytes).as_str()),
            false => Pin::new(format!("v{}", object.version)),
        }
    }

    fn pinned<'a>(&self, state: &'a State, at: &Location, pin: Option<&Pin>) -> Result<&'a Object> {
        let object = state.object(at)?;
        match pin {
            Some(pin) if *pin != self.pin(object) => {
                let message = format!("is version {}, expected {pin}", self.pin(object));
                Err(Error::new(ErrorKind::Changed, at, message))
            }
            _ => Ok(object),
        }
    }

    /// The same, which answers the completion of an upload that is gone with success, as versitygw 1.8 does.
    #[must_use]
    pub fn with_false_completions(self) -> Self {
        Self { false_completions: true, ..self }
    }

    /// The same, which copies no more than this into a part by itself.
    #[must_use]
    pub fn with_copies(self, copies: Copies) -> Self {
        Self { copies: Some(copies), ..self }
    }

    /// The same, which refuses to copy what it says it can, as S3 does if the credentials may not read the object.
    #[must_use]
    pub fn with_refused_copies(self) -> Self {
        Self { refused_copies: true, ..self }
    }

    /// What it says that it copies.
    fn offered(&self) -> Copies {
        self.copies.clone().unwrap_or(Copies::Pieces { block: 1 })
    }

    /// Refuses a part that is made of other pieces than it says.
    fn check_pieces(&self, at: &Location, chunks: &[Chunk]) -> Result<()> {
        let (_, copied) = Chunk::sums(chunks);
        let fits = match self.offered() {
            _ if self.refused_copies => false,
            Copies::None { .. } => false,
            Copies::Parts { max } => chunks.len() == 1 && copied <= max,
            Copies::Pieces { .. } => true,
        };
        match fits {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Unsupported, at, "its store does not copy these pieces")),
        }
    }

    /// The next read of an object races an overwrite by these bytes: it is held to the older version's pin and length, and
    /// returns the newer one's bytes.
    pub fn tear(&self, at: &Location, bytes: Bytes) {
        self.state().tears.insert(at.clone(), bytes);
    }

    /// Forgets every upload, as a bucket's rule for incomplete uploads does.
    pub fn expire_uploads(&self) {
        self.state().uploads.clear();
    }

    /// From now on it says that it copies nothing by itself. It does what it is asked all the same.
    pub fn offer_no_copies(&self) {
        self.state().offers_none = true;
    }

    /// How many bytes were copied into parts since the beginning.
    pub fn bytes_copied(&self) -> u64 {
        self.state().bytes_copied
    }

    /// How many parts were put or composed since the beginning, those put again included.
    pub fn parts_put(&self) -> u64 {
        self.state().parts_put
    }

    /// Uploads that are neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    /// Every object's bytes, by location.
    pub fn snapshot(&self) -> BTreeMap<Location, Bytes> {
        self.state().objects.iter().map(|(at, object)| (at.clone(), object.bytes.clone())).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Memory")
            .field("objects", &state.objects.len())
            .field("uploads", &state.uploads.len())
            .finish_non_exhaustive()
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn write(&mut self, at: &Location, bytes: Bytes) {
        let version = self.next();
        self.objects.insert(at.clone(), Object { bytes, version });
    }

    fn object(&self, at: &Location) -> Result<&Object> {
        self.objects.get(at).ok_or_else(|| Error::new(ErrorKind::NotFound, at, "is not there"))
    }

    fn upload(&mut self, at: &Location, upload: &UploadId) -> Result<&mut Upload> {
        match self.uploads.get_mut(upload.as_str()) {
            Some(found) if found.at == *at => Ok(found),
            _ => Err(Error::new(ErrorKind::NoSuchUpload, at, format!("has no upload {upload}"))),
        }
    }
}

/// Equal bytes have equal ids, as ETags do.
fn part_id(bytes: &[u8]) -> PartId {
    PartId::new(&blake3::hash(bytes).to_hex()[..32])
}

#[async_trait]
impl Store for Memory {
    async fn head(&self, at: &Location) -> Result<Meta> {
        let state = self.state();
        let object = state.object(at)?;
        Ok(Meta { size: object.bytes.len() as u64, pin: self.pin(object) })
    }

    async fn read(&self, at: &Location, offset: u64, mut buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        let mut state = self.state();
        let mut length = self.pinned(&state, at, pin)?.bytes.len();
        if let Some(newer) = state.tears.remove(at) {
            length = length.min(newer.len());
            state.write(at, newer);
        }
        let object = state.object(at)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(bytes) = start.checked_add(buf.len()).and_then(|end| object.bytes.get(start..end)) else {
            let message = format!("has {length} bytes, {} from {offset} on were asked for", buf.len());
            return Err(Error::new(ErrorKind::ShortRead, at, message));
        };
        buf.copy_from_slice(bytes);
        Ok(buf)
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        let shown = dir.to_string();
        let below = format!("{}/", shown.trim_end_matches('/'));
        let state = self.state();
        let mut entries: Vec<Entry> = state
            .objects
            .iter()
            .filter_map(|(at, object)| {
                let name = at.to_string().strip_prefix(&below)?.to_owned();
                Some(Entry::file(name, object.bytes.len() as u64))
            })
            .collect();
        entries.sort();
        Ok(entries)
    }

    async fn put(&self, at: &Location, bytes: Bytes) -> Result<()> {
        self.state().write(at, bytes);
        Ok(())
    }

    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()> {
        let mut state = self.state();
        if state.objects.contains_key(at) {
            return Err(Error::new(ErrorKind::AlreadyExists, at, "exists already"));
        }
        state.write(at, bytes);
        Ok(())
    }

    async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
        let mut state = self.state();
        let bytes = self.pinned(&state, from, pin)?.bytes.clone();
        state.write(to, bytes);
        Ok(())
    }

    async fn delete(&self, at: &Location) -> Result<()> {
        self.state().objects.remove(at);
        Ok(())
    }

    async fn delete_if(&self, at: &Location, pin: &Pin) -> Result<()> {
        let mut state = self.state();
        match self.pinned(&state, at, Some(pin)) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        }
        state.objects.remove(at);
        Ok(())
    }

    async fn delete_tree(&self, dir: &Location) -> Result<()> {
        let mut state = self.state();
        state.objects.retain(|at, _| !at.is_within(dir));
        state.uploads.retain(|_, upload| !upload.at.is_within(dir));
        Ok(())
    }

    async fn remove_empty_dir(&self, _: &Location) -> Result<()> {
        Ok(())
    }

    async fn sweep(&self, _: &Location) -> Result<()> {
        Ok(())
    }

    async fn begin(&self, at: &Location, _: u64) -> Result<UploadId> {
        let mut state = self.state();
        let id = format!("upload-{}", state.next());
        state.uploads.insert(id.clone(), Upload { at: at.clone(), parts: BTreeMap::new() });
        Ok(UploadId::new(id))
    }

    async fn probe(&self, at: &Location, upload: &UploadId) -> Result<bool> {
        Ok(self.state().upload(at, upload).is_ok())
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        let mut state = self.state();
        let id = part_id(&bytes);
        state.upload(at, upload)?.parts.insert(part.number, (id.clone(), bytes));
        state.parts_put += 1;
        Ok(id)
    }

    async fn copies(&self, _: &Location, _: &Location) -> Result<Copies> {
        Ok(match self.state().offers_none {
            true => Copies::none("it does not offer that now"),
            false => self.offered(),
        })
    }

    async fn compose_part(
        &self,
        at: &Location,
        upload: &UploadId,
        part: PartSlot,
        chunks: Vec<Chunk>,
    ) -> Result<PartId> {
        self.check_pieces(at, &chunks)?;
        let mut state = self.state();
        let mut whole = Vec::new();
        for chunk in &chunks {
            match chunk {
                Chunk::Bytes(bytes) => whole.extend_from_slice(bytes),
                Chunk::Copy { from, range, pin } => {
                    let object = self.pinned(&state, from, Some(pin))?;
                    let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
                    let Some(bytes) = bounds.and_then(|(start, end)| object.bytes.get(start..end)) else {
                        let message = format!("has {} bytes, those of {range:?} were asked for", object.bytes.len());
                        return Err(Error::new(ErrorKind::ShortRead, from, message));
                    };
                    whole.extend_from_slice(bytes);
                }
            }
        }
        let id = part_id(&whole);
        state.upload(at, upload)?.parts.insert(part.number, (id.clone(), whole.into()));
        state.parts_put += 1;
        state.bytes_copied += Chunk::sums(&chunks).1;
        Ok(id)
    }

    async fn read_part(&self, at: &Location, _: &UploadId, _: u64, _: Vec<u8>) -> Result<Vec<u8>> {
        Err(Error::new(ErrorKind::Unsupported, at, "parts of an upload in progress cannot be read"))
    }

    fn may_be_part(&self, _: PartSlot, _: u64, id: &PartId) -> bool {
        id.as_str().len() == 32 && id.as_str().bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    async fn complete(&self, at: &Location, what: Completion<'_>) -> Result<Option<Pin>> {
        let Completion { upload, parts, size } = what;
        let mut state = self.state();
        let refuse = |message: String| Err(Error::new(ErrorKind::Permanent, at, message));
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidPart, at, message));
        let found = match state.upload(at, upload) {
            Ok(found) => found,
            Err(gone) => match state.object(at) {
                _ if self.false_completions => return Ok(Some(Pin::new("invented"))),
                Ok(object) if object.bytes.len() as u64 == size => return Ok(None),
                _ => return Err(gone),
            },
        };
        let mut whole = Vec::new();
        for (i, (number, id)) in parts.iter().enumerate() {
            match found.parts.get(number) {
                Some((last, bytes)) if last == id => {
                    if bytes.len() < LEAST_PART && i + 1 < parts.len() && !self.small_parts {
                        return refuse(format!(
                            "part {number} has {} bytes, at least {LEAST_PART} are taken",
                            bytes.len()
                        ));
                    }
                    whole.extend_from_slice(bytes);
                }
                Some((last, _)) => return invalid(format!("part {number} is {last}, not {id}")),
                None => return invalid(format!("part {number} was not put")),
            }
        }
        if whole.len() as u64 != size {
            return refuse(format!("the parts have {} bytes of {size}", whole.len()));
        }
        state.uploads.remove(upload.as_str());
        state.write(at, whole.into());
        state.object(at).map(|object| Some(self.pin(object)))
    }

    async fn abort(&self, at: &Location, upload: &UploadId) -> Result<()> {
        let mut state = self.state();
        if state.upload(at, upload).is_ok() {
            state.uploads.remove(upload.as_str());
        }
        Ok(())
    }

    async fn boot_id(&self, _: &Location) -> Result<Option<String>> {
        Ok(None)
    }

    async fn space(&self, _: &Location) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn check_output(&self, _: &Location) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn does_what_every_store_does() {
        crate::conformance::run(Arc::new(Memory::new()), "s3://bucket/suite".parse().unwrap()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_does_so_with_pins_of_bytes() {
        let store = Memory::new().with_pins_of_bytes();
        crate::conformance::run(Arc::new(store), "s3://bucket/suite".parse().unwrap()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_does_so_with_fewer_copies() {
        for copies in [Copies::Parts { max: 5 << 30 }, Copies::Pieces { block: 4096 }, Copies::none("a test")] {
            let store = Memory::new().with_copies(copies);
            crate::conformance::run(Arc::new(store), "s3://bucket/suite".parse().unwrap()).await;
        }
    }

    #[tokio::test]
    async fn copies_that_it_does_not_offer_are_refused() {
        let at: Location = "s3://bucket/x".parse().unwrap();
        let compose = async |store: &Memory, pieces: usize| {
            store.put(&at, "abcdef".into()).await.unwrap();
            let pin = store.head(&at).await.unwrap().pin;
            let upload = store.begin(&at, 1).await.unwrap();
            let chunk = Chunk::Copy { from: at.clone(), range: 1..4, pin };
            store.compose_part(&at, &upload, PartSlot { number: 0, offset: 0 }, vec![chunk; pieces]).await
        };
        let parts = |max| Memory::new().with_copies(Copies::Parts { max });
        for (store, pieces, copied) in [
            (Memory::new(), 2, 6),
            (parts(3), 1, 3),
            (parts(3), 2, 0),
            (parts(2), 1, 0),
            (Memory::new().with_copies(Copies::none("a test")), 1, 0),
            (Memory::new().with_refused_copies(), 1, 0),
        ] {
            let result = compose(&store, pieces).await;
            assert_eq!(store.bytes_copied(), copied, "{:?}", store.copies);
            assert!(result.map_or_else(|e| e.kind() == ErrorKind::Unsupported, |_| copied > 0), "{:?}", store.copies);
        }
    }

    #[tokio::test]
    async fn a_false_completion_names_a_version_that_is_not_there() {
        let store = Memory::new().with_false_completions();
        let at: Location = "s3://bucket/x".parse().unwrap();
        store.put(&at, "older".into()).await.unwrap();
        let upload = store.begin(&at, 5).await.unwrap();
        let part = store.put_part(&at, &upload, PartSlot { number: 0, offset: 0 }, "newer".into()).await.unwrap();
        store.expire_uploads();
        let made = store.complete(&at, Completion { upload: &upload, parts: &[(0, part)], size: 5 }).await.unwrap();
        assert_ne!(made, Some(store.head(&at).await.unwrap().pin));
        assert_eq!(&store.get(&at, 9).await.unwrap().0[..], b"older");
    }

    #[tokio::test]
    async fn ids_are_the_same_in_every_run() {
        let ids = || async {
            let store = Memory::new();
            let at: Location = "s3://bucket/x".parse().unwrap();
            let upload = store.begin(&at, 1).await.unwrap();
            let part = store.put_part(&at, &upload, PartSlot { number: 0, offset: 0 }, "a".into()).await.unwrap();
            (upload, part)
        };
        assert_eq!(ids().await, ids().await);
    }
}
