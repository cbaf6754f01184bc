//! Uploads that are written down before anything comes of them.
//!
//! **Why.** A coordinator may be stopped for any time between two of its operations, also between its look at the epoch and
//! the next write. That write must do nothing once another coordinator has come. An upload does just
//! that: it is completed once, by its id, and never after it was dropped. So every file of publication comes into its
//! place by an upload, in this order:
//!
//! 1. begin the upload, and write its id into the journal;
//! 2. look at the epoch: the claim must hold *after* the id was written down;
//! 3. put the bytes, and complete.
//!
//! A later coordinator takes an epoch first and reads the journals next. Either it finds the id, and drops the upload, or
//! the look of step 2 finds the newer epoch.

use bytes::Bytes;
use futures::{StreamExt, stream};
use shardfuse_merge::inventory::ObjectId;
use shardfuse_merge::output::SmallFile;
use shardfuse_merge::output::manifest::ManifestFile;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{Location, PartId, PartSlot, Pin, Store, UploadId};

use super::content::Content;
use super::settle::{CONCURRENT, Expected, settle};
use crate::failure::{input, io, join, location};
use crate::journal::{Record, Writer};
use crate::opened::Opened;

/// Bytes of a part of a copied file. Stores take no smaller ones than 5 MiB before the last.
const PART: u64 = 16 << 20;

/// A publication, with the uploads that it has announced.
pub(super) struct Publication<'a> {
    pub(super) opened: &'a Opened,
    pub(super) store: &'a dyn Store,
    pub(super) journal: &'a mut Writer,
    begun: Vec<(Location, UploadId)>,
}

/// An upload that may be completed.
pub(super) struct Announced {
    /// The file, relative to the output.
    pub(super) name: String,
    /// Its place.
    pub(super) at: Location,
    upload: UploadId,
}

impl<'a> Publication<'a> {
    pub(super) fn new(opened: &'a Opened, store: &'a dyn Store, journal: &'a mut Writer) -> Self {
        Publication { opened, store, journal, begun: Vec::new() }
    }

    /// Announces an upload for each file, of a name and a length in bytes.
    pub(super) async fn announce(&mut self, files: &[(&str, u64)]) -> Result<Vec<Announced>> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        self.opened.hold().await?;
        let (store, output) = (self.store, &self.opened.output);
        // Written down first: an id that is lost between the two records can at least be missed.
        let names = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        self.journal.append(Record::Announcing { files: names }).await?;
        let begun: Vec<Result<Announced>> = stream::iter(files.iter().copied())
            .map(|(name, size)| async move {
                let at = join(output, name)?;
                let upload = store.begin(&at, size).await.map_err(io)?;
                Ok(Announced { name: name.to_owned(), at, upload })
            })
            .buffered(CONCURRENT)
            .boxed()
            .collect()
            .await;
        // Those that began are known from here on, even if another did not.
        self.begun.extend(begun.iter().flatten().map(|a| (a.at.clone(), a.upload.clone())));
        let announced = begun.into_iter().collect::<Result<Vec<Announced>>>()?;
        let record = announced.iter().zip(files).map(|(a, (_, size))| (a.name.clone(), *size, a.upload.to_string()));
        self.journal.append(Record::Announced { uploads: record.collect() }).await?;
        self.opened.hold().await?;
        Ok(announced)
    }

    /// Drops what was announced and is not completed. Best effort: a later coordinator does it too.
    pub(super) async fn drop_announced(&self) {
        for (at, upload) in &self.begun {
            let _ = self.store.abort(at, upload).await;
        }
    }

    /// Puts bytes into the place of an announced file.
    pub(super) async fn put(&self, file: &Announced, bytes: Bytes) -> Result<ManifestFile> {
        let (size, hash) = (bytes.len() as u64, blake3::hash(&bytes));
        let id = self.part(file, PartSlot { number: 0, offset: 0 }, bytes).await?;
        self.complete(file, &[(0, id)], size, hash).await
    }

    /// Puts a small file of the plan into its place.
    pub(super) async fn small(&self, file: &Announced, content: &SmallFile) -> Result<ManifestFile> {
        match content {
            SmallFile::Text(text) => self.put(file, Bytes::copy_from_slice(text.as_bytes())).await,
            SmallFile::Copy(id) => self.copy(file, *id).await,
        }
    }

    /// Copies a file of an input into its place, a part at a time, held to its pin.
    async fn copy(&self, file: &Announced, ObjectId(id): ObjectId) -> Result<ManifestFile> {
        let object = &self.opened.plan.objects[id as usize];
        let (from, pin) = (location(&object.url)?, Pin::new(&object.pin));
        let source = self.opened.stores.open(&from);
        let mut hasher = blake3::Hasher::new();
        let mut parts = Vec::new();
        let mut offset = 0;
        // One part at least, also of an empty file.
        while parts.is_empty() || offset < object.size {
            let length = PART.min(object.size - offset);
            let bytes = source.read(&from, offset, vec![0; length as usize], Some(&pin)).await.map_err(input)?;
            hasher.update(&bytes);
            let slot = PartSlot { number: parts.len() as u32, offset };
            parts.push((slot.number, self.part(file, slot, bytes.into()).await?));
            offset += length;
        }
        self.complete(file, &parts, object.size, hasher.finalize()).await
    }

    async fn part(&self, file: &Announced, slot: PartSlot, bytes: Bytes) -> Result<PartId> {
        match self.store.put_part(&file.at, &file.upload, slot, bytes).await {
            Err(e) if e.kind() == shardfuse_store::ErrorKind::NoSuchUpload => Err(self.lost(file, &e.chain()).await),
            put => put.map_err(io),
        }
    }

    async fn complete(
        &self,
        file: &Announced,
        parts: &[(u32, PartId)],
        size: u64,
        hash: blake3::Hash,
    ) -> Result<ManifestFile> {
        // Only this process puts the parts of these files.
        let content = Content::whole(size, hash);
        let expected = Expected { content: &content, read_back: false };
        match settle(&self.opened.stores, &file.at, &file.upload, parts, expected).await? {
            None => Ok(content.entry(&file.name, self.opened.plan.spec.part_size)),
            Some(why) => Err(self.lost(file, &why).await),
        }
    }

    /// The upload was dropped: by the coordinator that took over, or by one that was replaced and did not know it yet.
    pub(super) async fn lost(&self, file: &Announced, why: &str) -> Error {
        match self.opened.hold().await {
            Err(busy) => busy,
            Ok(()) => Error::new(Kind::PartsLost, format!("the upload of {} was dropped meanwhile: {why}", file.at))
                .hint("run the same command again: it goes on where it stopped"),
        }
    }
}
