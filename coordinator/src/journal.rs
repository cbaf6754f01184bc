//! The state of a merge, below `<output>/.shardfuse/`.
//!
//! ```text
//! plan                    the plan, created if absent: one plan an output
//! epoch/<n>               taken by create-if-absent: the highest number is the coordinator that counts
//! header/<file>           the bytes that begin an output file
//! measured/<id>/<block>   sums of one block; measured/<id>/all: folded over all blocks
//! journal/<epoch>/<seq>   records, read by GET until one is missing
//! ```
//!
//! A record carries its own digest: one that was cut off by a crash counts as missing, and so does everything behind it,
//! which costs the parts that it named and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{ErrorKind, Location, Store};

use crate::failure::{io, join};

/// The folder of a merge's state, below the output.
pub const STATE: &str = ".shardfuse";
/// The largest state object that is read, in bytes.
const MAX_OBJECT: u64 = 1 << 30;

/// A finished piece, as it is journaled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceRecord {
    /// The task.
    pub task: u32,
    /// The part or block.
    pub piece: u32,
    /// The attempt.
    pub epoch: u32,
    /// The store's part id.
    pub store_id: String,
    /// The length in bytes.
    pub length: u64,
    /// BLAKE3 chaining value.
    pub chaining: blake3::Hash,
    /// Factors of which everything that was read is zero.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zero: Vec<String>,
    /// Factors of which it is not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live: Vec<String>,
}

/// One journal object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A coordinator began, with these uploads (file number and upload id) that were opened anew.
    Opened {
        /// Identifies the machine's boot, on a local store.
        boot: Option<String>,
        /// Uploads opened by this coordinator.
        uploads: Vec<(u32, String)>,
        /// The class of the workers from here on.
        #[serde(default)]
        device_class: Option<String>,
    },
    /// Pieces finished.
    Pieces(Vec<PieceRecord>),
}

/// What a journal says.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The highest epoch taken.
    pub epoch: u64,
    /// The boot that the last coordinator wrote in.
    pub boot: Option<String>,
    /// The device class that the last coordinator chose workers of.
    pub device_class: Option<String>,
    /// The live upload of each file.
    pub uploads: HashMap<u32, String>,
    /// Finished pieces, by task and piece.
    pub pieces: HashMap<(u32, u32), PieceRecord>,
}

/// The state folder of one output.
#[derive(Debug, Clone)]
pub struct State {
    /// The output's store.
    pub store: Arc<dyn Store>,
    /// The state folder.
    pub at: Location,
}

impl State {
    /// The state folder below an output.
    pub fn of(store: Arc<dyn Store>, output: &Location) -> Result<State> {
        Ok(State { store, at: join(output, STATE)? })
    }

    /// A place below the state folder.
    pub fn place(&self, name: &str) -> Result<Location> {
        join(&self.at, name)
    }

    /// The whole of a state object, if it is there.
    pub async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        match self.store.get(&self.place(name)?, MAX_OBJECT).await {
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(e)),
        }
    }

    /// Writes a state object.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.store.put(&self.place(name)?, bytes).await.map_err(io)
    }

    /// Creates a state object; false if it is there already.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        match self.store.create(&self.place(name)?, bytes).await {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(io(e)),
        }
    }

    /// The stored plan.
    pub async fn plan(&self) -> Result<Option<Plan>> {
        match self.get("plan").await? {
            Some(bytes) => Plan::from_bytes(&bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Takes the next epoch.
    pub async fn take_epoch(&self, above: u64) -> Result<u64> {
        let mut epoch = above + 1;
        while !self.create(&format!("epoch/{epoch}"), Bytes::from_static(b"shardfuse\n")).await? {
            epoch += 1;
        }
        Ok(epoch)
    }

    /// Whether a later coordinator has taken over.
    pub async fn check_epoch(&self, mine: u64) -> Result<()> {
        let gone = self.get(&format!("epoch/{mine}")).await?.is_none();
        if gone || self.get(&format!("epoch/{}", mine + 1)).await?.is_some() {
            return Err(Error::new(
                Kind::OutputBusy,
                format!("another shardfuse took over the merge at {} (epoch above {mine})", self.at),
            ));
        }
        Ok(())
    }

    /// Reads the journals of all epochs.
    pub async fn history(&self) -> Result<History> {
        let mut history = History::default();
        while self.get(&format!("epoch/{}", history.epoch + 1)).await?.is_some() {
            history.epoch += 1;
            let mut seq = 0u64;
            while let Some(bytes) = self.get(&format!("journal/{}/{seq}", history.epoch)).await? {
                let Some(record) = parse(&bytes) else { break };
                history.take(record);
                seq += 1;
            }
        }
        Ok(history)
    }
}

impl History {
    fn take(&mut self, record: Record) {
        match record {
            Record::Opened { boot, uploads, device_class } => {
                self.boot = boot;
                self.device_class = device_class.or(self.device_class.take());
                self.uploads.extend(uploads);
            }
            Record::Pieces(pieces) => self.pieces.extend(pieces.into_iter().map(|p| ((p.task, p.piece), p))),
        }
    }
}

/// Writes one coordinator's journal.
#[derive(Debug)]
pub struct Writer {
    state: State,
    epoch: u64,
    seq: u64,
}

impl Writer {
    /// A journal under a fresh epoch.
    pub fn new(state: State, epoch: u64) -> Writer {
        Writer { state, epoch, seq: 0 }
    }

    /// Appends a record. When this returns, a coordinator that recovers will find it.
    pub async fn append(&mut self, record: &Record) -> Result<()> {
        let name = format!("journal/{}/{}", self.epoch, self.seq);
        if !self.state.create(&name, render(record)).await? {
            return Err(Error::new(
                Kind::OutputBusy,
                format!("{name} is there already: two processes write one epoch of {}", self.state.at),
            ));
        }
        self.seq += 1;
        Ok(())
    }
}

fn render(record: &Record) -> Bytes {
    let mut bytes = serde_json::to_vec(record).unwrap_or_default();
    let digest = blake3::hash(&bytes).to_hex();
    bytes.push(b'\n');
    bytes.extend_from_slice(digest.as_bytes());
    bytes.into()
}

fn parse(bytes: &[u8]) -> Option<Record> {
    let at = bytes.len().checked_sub(65)?;
    let (json, digest) = (bytes.get(..at)?, bytes.get(at + 1..)?);
    (blake3::hash(json).to_hex().as_bytes() == digest).then(|| serde_json::from_slice(json).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_cut_off_or_damaged_counts_as_missing() {
        let record = Record::Opened { boot: Some("b".into()), uploads: vec![(0, "u".into())], device_class: None };
        let whole = render(&record);
        assert_eq!(parse(&whole), Some(record));
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), None, "cut to {len}");
        }
        let mut damaged = whole.to_vec();
        damaged[3] ^= 1;
        assert_eq!(parse(&damaged), None);
    }

    #[test]
    fn a_reopened_upload_replaces_the_old_one() {
        let mut history = History::default();
        history.take(Record::Opened {
            boot: None,
            uploads: vec![(0, "old".into()), (1, "kept".into())],
            device_class: None,
        });
        history.take(Record::Opened { boot: None, uploads: vec![(0, "new".into())], device_class: None });
        assert_eq!((history.uploads[&0].as_str(), history.uploads[&1].as_str()), ("new", "kept"));
    }
}
