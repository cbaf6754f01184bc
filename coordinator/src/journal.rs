//! What coordinators write down while they work, and what a later one reads.
//!
//! A record carries its own digest. One that does not fit is read once more, since some stores mix two versions in a read
//! that races a write. If it still does not fit, it was cut off by a crash: it counts as missing, and so does everything
//! behind it in that coordinator's journal. That costs the parts that it named and nothing else.

mod piece;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::task::{Task, Work, tasks};
use shardfuse_merge::{DeviceClass, Error, Kind, Result};
use tracing::warn;

use crate::state::{Claim, OutputState, Taken, now};

pub use piece::{Effect, PieceRecord};

/// Records that are read at a time: as many at first, and at the most.
const AHEAD: (usize, usize) = (2, 64);

/// The folder of the journals, below the state.
pub(crate) const FOLDER: &str = "journal";

/// One journal object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// Uploads of these files are about to begin: if no `Opened` follows, there may be an upload with an unknown id.
    Opening {
        /// Files, by their number in the plan.
        files: Vec<u32>,
    },
    /// Uploads (file number and upload id) that were opened anew: what was journaled of these files before belongs to
    /// uploads that are no more.
    Opened {
        /// Identifies the machine's boot, on a local store.
        boot: Option<String>,
        /// Uploads opened by this coordinator.
        uploads: Vec<(u32, String)>,
        /// The class of the workers from here on.
        #[serde(default)]
        device_class: Option<DeviceClass>,
    },
    /// Uploads of these files of publication are about to begin, as with `Opening`.
    Announcing {
        /// Files, by their names in the output.
        files: Vec<String>,
    },
    /// Uploads of files of publication (name, length in bytes, upload id), before any of them is completed.
    Announced {
        /// The uploads.
        uploads: Vec<(String, u64, String)>,
    },
    /// Pieces finished.
    Pieces(Vec<PieceRecord>),
    /// The store does not make a file of the parts that it took: they count for nothing, and its upload is dropped.
    Dropped {
        /// The file's number.
        file: u32,
    },
    /// Pieces that did not survive, though they were journaled.
    Lost {
        /// Pairs of task and piece.
        pieces: Vec<(u32, u32)>,
    },
    /// Workers that computed other bytes than two others: they get nothing more of this merge.
    Odd {
        /// Their numbers.
        workers: Vec<u64>,
    },
    /// The coordinator stopped in order: nobody works here.
    Closed {},
}

/// A record and when it was written, in seconds since 1970 by the clock of that machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    at: u64,
    record: Record,
}

/// What the journals say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The highest epoch that was read.
    pub epoch: u64,
    /// The boot that the last coordinator wrote in.
    pub boot: Option<String>,
    /// The device class that the last coordinator chose workers of.
    pub device_class: Option<DeviceClass>,
    /// The live upload of each file.
    pub uploads: BTreeMap<u32, String>,
    /// Finished pieces, by task and piece.
    pub pieces: HashMap<(u32, u32), PieceRecord>,
    /// Files whose uploads may have begun without their ids being written down.
    pub unknown: BTreeSet<u32>,
    /// Uploads that a publication announced, whatever became of them: name, length in bytes, and id.
    pub announced: Vec<(String, u64, String)>,
    /// Files of publication whose uploads may have begun without their ids being written down.
    pub unannounced: BTreeSet<String>,
    /// Workers that computed other bytes than two others.
    pub odd: BTreeSet<u64>,
    /// When a coordinator last wrote something, in seconds since 1970.
    pub last: u64,
    /// Whether the last coordinator stopped in order.
    pub closed: bool,
}

impl History {
    /// Reads the journals of all epochs below one, oldest first. `plan` is the digest of the plan that they must be about.
    pub async fn read(state: &OutputState, plan: &str, tasks: &[Task], below: u64) -> Result<History> {
        let mut history = History::default();
        for epoch in 1..below {
            let Some(taken) = state.taken(epoch).await? else { break };
            history.epoch = epoch;
            // The epoch itself is a sign of life, of one that has not written yet.
            history.last = history.last.max(taken.at);
            history.closed = false;
            if taken.plan == plan {
                let claim = Claim { epoch, token: taken.token };
                history.read_one(state, &claim, tasks).await?;
            }
        }
        Ok(history)
    }

    /// What the journals of these epochs announce, whatever the plan: name, length and id of each upload.
    pub(crate) async fn announced(state: &OutputState, epochs: &[Taken]) -> Result<Vec<(String, u64, String)>> {
        let mut history = History::default();
        for (epoch, taken) in (1..).zip(epochs).filter(|(_, taken)| !taken.is_seal()) {
            history.read_one(state, &Claim { epoch, token: taken.token.clone() }, &[]).await?;
        }
        Ok(history.announced)
    }

    /// Reads one journal until a record is missing, several records ahead.
    async fn read_one(&mut self, state: &OutputState, claim: &Claim, tasks: &[Task]) -> Result<()> {
        let (mut ahead, most) = AHEAD;
        let mut first = 0u64;
        let mut opening = BTreeSet::new();
        let mut announcing = BTreeSet::new();
        loop {
            let names = (first..first + ahead as u64).map(|seq| name(claim, seq));
            let mut found = stream::iter(names)
                .map(|name| async move { state.read(&name, |bytes| parse(bytes).ok_or(())).await })
                .buffered(ahead)
                .boxed();
            while let Some(entry) = found.next().await {
                let entry = entry?;
                let Some(Ok(entry)) = entry else {
                    if entry.is_some() {
                        warn!(state = %state.at, epoch = claim.epoch, "a damaged record: what follows it is done again");
                    }
                    // What this coordinator did not write down before it ended, nobody will.
                    self.unknown.append(&mut opening);
                    self.unannounced.append(&mut announcing);
                    return Ok(());
                };
                self.last = self.last.max(entry.at);
                match &entry.record {
                    Record::Opening { files } => opening.extend(files),
                    Record::Announcing { files } => announcing.extend(files.iter().cloned()),
                    Record::Announced { uploads } => uploads.iter().for_each(|(file, ..)| _ = announcing.remove(file)),
                    Record::Opened { uploads, .. } => uploads.iter().for_each(|(file, _)| _ = opening.remove(file)),
                    _ => {}
                }
                self.take(entry.record, tasks);
            }
            first += ahead as u64;
            ahead = (2 * ahead).min(most);
        }
    }

    fn take(&mut self, record: Record, tasks: &[Task]) {
        self.closed = matches!(record, Record::Closed {});
        match record {
            Record::Opening { .. } | Record::Announcing { .. } | Record::Closed {} => {}
            Record::Opened { boot, uploads, device_class } => {
                self.boot = boot;
                self.device_class = device_class.or(self.device_class.take());
                for (file, upload) in uploads {
                    if self.uploads.get(&file) != Some(&upload) {
                        self.forget(file, tasks);
                    }
                    self.uploads.insert(file, upload);
                }
            }
            Record::Announced { uploads } => self.announced.extend(uploads),
            Record::Pieces(pieces) => self.pieces.extend(pieces.into_iter().map(|p| ((p.task, p.piece), p))),
            Record::Dropped { file } => self.forget(file, tasks),
            Record::Lost { pieces } => pieces.iter().for_each(|key| _ = self.pieces.remove(key)),
            Record::Odd { workers } => self.odd.extend(workers),
        }
    }

    /// Forgets an upload and the parts that were put to it.
    pub fn forget(&mut self, file: u32, tasks: &[Task]) {
        self.uploads.remove(&file);
        self.pieces.retain(|(task, _), _| match tasks.get(*task as usize).map(|t| t.work) {
            Some(Work::Fill { file: f, .. }) => f != file,
            Some(Work::Reduce { .. }) => true,
            None => false,
        });
    }
}

/// The plan of a state and everything that was journaled there.
pub(crate) async fn read(state: &OutputState) -> Result<Option<(Plan, History)>> {
    let Some(plan) = state.plan().await? else { return Ok(None) };
    let history = History::read(state, &plan.digest(), &tasks(&plan), u64::MAX).await?;
    Ok(Some((plan, history)))
}

/// Writes one coordinator's journal.
#[derive(Debug)]
pub struct Writer {
    state: OutputState,
    claim: Claim,
    seq: u64,
}

impl Writer {
    /// A journal under a fresh claim.
    pub fn new(state: OutputState, claim: Claim) -> Writer {
        Writer { state, claim, seq: 0 }
    }

    /// Appends a record. When this returns, a coordinator that recovers will find it.
    pub async fn append(&mut self, record: Record) -> Result<()> {
        let name = name(&self.claim, self.seq);
        if !self.state.create(&name, render(&Entry { at: now(), record })).await? {
            // The token in the name is this coordinator's alone.
            return Err(Error::new(Kind::Internal, format!("{name} is there already in {}", self.state.at)));
        }
        self.seq += 1;
        Ok(())
    }

    /// Fails with `output_busy` if the journal's coordinator does not count any more.
    pub async fn check(&self) -> Result<()> {
        self.state.check(&self.claim).await
    }
}

/// The folder of a coordinator's journal, below the state. Its name is this coordinator's alone.
pub(crate) fn folder(claim: &Claim) -> String {
    format!("{FOLDER}/{}-{}", claim.epoch, claim.token)
}

fn name(claim: &Claim, seq: u64) -> String {
    format!("{}/{seq}", folder(claim))
}

fn render(entry: &Entry) -> Bytes {
    let mut bytes = serde_json::to_vec(entry).unwrap_or_default();
    let digest = blake3::hash(&bytes).to_hex();
    bytes.push(b'\n');
    bytes.extend_from_slice(digest.as_bytes());
    bytes.into()
}

fn parse(bytes: &[u8]) -> Option<Entry> {
    let at = bytes.len().checked_sub(65)?;
    let (json, digest) = (bytes.get(..at)?, bytes.get(at + 1..)?);
    (blake3::hash(json).to_hex().as_bytes() == digest).then(|| serde_json::from_slice(json).ok()).flatten()
}

#[cfg(test)]
mod tests;
