//! Opening a merge's uploads, and what of its earlier work still counts.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::task::{Task, Work};
use shardfuse_merge::{DeviceClass, Result};
use shardfuse_store::{Location, UploadId, digest};
use tracing::{info, warn};

use crate::failure::{io, join};
use crate::journal::{History, Record, Writer};
use crate::measured::Measured;
use crate::persist::Measuring;
use crate::publish;
use crate::state::OutputState;

/// Uploads that are begun, probed or journaled at a time.
const CONCURRENT: usize = 16;
/// Parts that are read and checked at a time after a crash.
const RECHECKED: usize = 2;

/// An upload that still counts.
enum Live {
    /// Parts can be put to it.
    Open(UploadId),
    /// A file of its length is where it was to go.
    InPlace(UploadId),
}

impl Live {
    fn upload(self) -> UploadId {
        match self {
            Live::Open(upload) | Live::InPlace(upload) => upload,
        }
    }
}

/// What is opened.
pub(super) struct Opening<'a> {
    pub(super) state: &'a OutputState,
    pub(super) output: &'a Location,
    pub(super) plan: &'a Plan,
    pub(super) tasks: &'a [Task],
    pub(super) device_class: &'a DeviceClass,
}

impl Opening<'_> {
    /// The upload of each file. Those that the journal names and the store has forgotten are begun anew, and what was put
    /// to them is forgotten.
    pub(super) async fn uploads(&self, history: &mut History, journal: &mut Writer) -> Result<Vec<UploadId>> {
        let boot = self.state.store.boot_id(self.output).await.map_err(io)?;
        // Only parts on a file system of one machine can be lost or changed without a trace, and then the store names a
        // boot. A coordinator that did not stop in order may have been killed together with what else wrote there.
        let doubtful = history.boot.is_some() && (history.boot != boot || !history.closed);
        let numbers = 0..self.plan.output.files.len() as u32;
        let live: Vec<Option<Live>> = stream::iter(numbers)
            .map(|file| self.live(file, history))
            .buffered(CONCURRENT)
            .boxed()
            .try_collect()
            .await?;
        let (mut missing, mut lost) = (Vec::new(), Vec::new());
        for (file, upload) in (0u32..).zip(&live) {
            match upload {
                Some(Live::Open(upload)) if doubtful => lost.extend(self.recheck(file, upload, history).await?),
                Some(_) => {}
                None => {
                    self.forget(file, history);
                    missing.push(file);
                }
            }
        }
        if !lost.is_empty() {
            // Before this boot is written down as the last one: afterwards nobody may look again.
            journal.append(Record::Lost { pieces: lost }).await?;
        }
        let mut uploads: Vec<Option<UploadId>> = live.into_iter().map(|live| live.map(Live::upload)).collect();
        if missing.is_empty() {
            journal.append(self.opened(boot.clone(), Vec::new())).await?;
        }
        for files in missing.chunks(CONCURRENT) {
            // Written down first: an id that is lost between the two records can at least be missed.
            journal.append(Record::Opening { files: files.to_vec() }).await?;
            for (file, upload) in self.begin(files, boot.clone(), journal).await? {
                uploads[file as usize] = Some(upload);
            }
        }
        stream::iter((0u32..).zip(&self.plan.output.files))
            .map(|(n, file)| async move { self.state.put(&format!("header/{n}"), Bytes::from(file.header())).await })
            .buffer_unordered(CONCURRENT)
            .boxed()
            .try_collect::<Vec<()>>()
            .await?;
        Ok(uploads.into_iter().flatten().collect())
    }

    fn opened(&self, boot: Option<String>, uploads: Vec<(u32, String)>) -> Record {
        Record::Opened { boot, uploads, device_class: Some(self.device_class.clone()) }
    }

    fn place(&self, file: u32) -> Result<Location> {
        join(self.output, &self.plan.output.files[file as usize].name)
    }

    /// The upload that the journal names, if parts can still be put to it or the whole file is in place by it.
    async fn live(&self, file: u32, history: &History) -> Result<Option<Live>> {
        let Some(id) = history.uploads.get(&file).map(UploadId::new) else { return Ok(None) };
        let (at, store) = (self.place(file)?, &*self.state.store);
        if store.probe(&at, &id).await.map_err(io)? {
            return Ok(Some(Live::Open(id)));
        }
        // Completed by a coordinator that was killed while it published; publication compares the bytes.
        let size = self.plan.output.files[file as usize].size;
        let in_place = self.all_done(file, history) && publish::is_published(store, &at, size).await?;
        Ok(in_place.then_some(Live::InPlace(id)))
    }

    fn forget(&self, file: u32, history: &mut History) {
        if let Some(upload) = history.uploads.get(&file) {
            let parts = self.parts(file, history).count();
            let name = &self.plan.output.files[file as usize].name;
            warn!(file = %name, upload, parts, "an upload is gone, it expired or was dropped: its parts are made again");
        }
        history.forget(file, self.tasks);
    }

    async fn begin(&self, files: &[u32], boot: Option<String>, journal: &mut Writer) -> Result<Vec<(u32, UploadId)>> {
        let store = &*self.state.store;
        let begun: Vec<Result<(u32, UploadId)>> = stream::iter(files.iter().copied())
            .map(|file| async move {
                let upload = store.begin(&self.place(file)?, self.plan.output.files[file as usize].size).await;
                Ok((file, upload.map_err(io)?))
            })
            .buffered(CONCURRENT)
            .boxed()
            .collect()
            .await;
        let uploads: Vec<(u32, UploadId)> = begun.iter().flatten().cloned().collect();
        let named = uploads.iter().map(|(file, upload)| (*file, upload.as_str().to_owned())).collect();
        // Those that began are written down even if another did not.
        let written = journal.append(self.opened(boot, named)).await;
        if written.is_err() {
            for (file, upload) in &uploads {
                let _ = store.abort(&self.place(*file)?, upload).await;
            }
        }
        written?;
        begun.into_iter().collect::<Result<Vec<_>>>()
    }

    fn parts<'a>(&self, file: u32, history: &'a History) -> impl Iterator<Item = (u32, u32)> + 'a {
        let of_file: Vec<bool> =
            self.tasks.iter().map(|t| matches!(t.work, Work::Fill { file: f, .. } if f == file)).collect();
        history.pieces.keys().copied().filter(move |(task, _)| of_file.get(*task as usize) == Some(&true))
    }

    fn all_done(&self, file: u32, history: &History) -> bool {
        let mut of_file =
            (0u32..).zip(self.tasks).filter(|(_, t)| matches!(t.work, Work::Fill { file: f, .. } if f == file));
        of_file.all(|(task, t)| t.work.pieces().all(|piece| history.pieces.contains_key(&(task, piece))))
    }

    /// After a crash a part may not be what was written: what was never synced is lost with the machine, and somebody may
    /// have written to the file. Journaled parts are read again and held against their digests.
    async fn recheck(&self, file: u32, upload: &UploadId, history: &mut History) -> Result<Vec<(u32, u32)>> {
        let (at, out) = (self.place(file)?, &self.plan.output.files[file as usize]);
        let parts: Vec<(u32, u32)> = self.parts(file, history).collect();
        if !parts.is_empty() {
            info!(file = %at, parts = parts.len(), "the last run did not stop in order: its parts are read and checked");
        }
        let pieces = &history.pieces;
        let checked: Vec<((u32, u32), bool)> = stream::iter(parts)
            .map(|key| {
                let at = &at;
                async move {
                    // A copy that nobody read has nothing to be held against. It costs little to make again.
                    let intact = match (pieces[&key].chaining, out.cut.parts.get(key.1)) {
                        (Some(chaining), Some(part)) => {
                            let buf = vec![0; (part.end - part.start) as usize];
                            let read = self.state.store.read_part(at, upload, part.start, buf).await;
                            let digest = |bytes: Vec<u8>| digest::chaining_value(&bytes, part.start, out.size);
                            read.is_ok_and(|bytes| digest(bytes) == *chaining.as_bytes())
                        }
                        _ => false,
                    };
                    (key, intact)
                }
            })
            .buffered(RECHECKED)
            .boxed()
            .collect()
            .await;
        let lost: Vec<(u32, u32)> = checked.into_iter().filter(|(_, intact)| !intact).map(|(key, _)| key).collect();
        for key in &lost {
            warn!(file = %at, part = key.1, "a part is not what was written, and is made again");
            history.pieces.remove(key);
        }
        Ok(lost)
    }

    /// Measurements that are whole; blocks whose sums are gone are measured again.
    pub(super) async fn measured(&self, history: &mut History) -> Result<Vec<Measured>> {
        let measuring = Measuring::new(self.state.clone(), self.plan, self.tasks);
        let mut facts = Vec::new();
        for id in measuring.ids() {
            if let Some(fact) = measuring.folded(id).await? {
                facts.push(fact);
                continue;
            }
            let there = measuring.blocks(id).await?;
            for (task, block) in measuring.pieces(id, self.tasks) {
                if !there.contains(&block) {
                    history.pieces.remove(&(task, block));
                }
            }
            facts.extend(measuring.fold(id, &there).await?);
        }
        Ok(facts)
    }
}
