//! What a coordinator must know to go on after a restart, below its `--state` URL.
//!
//! ```text
//! merges/<id>    a merge: what was asked for, what its submitter allowed that is not done yet, and how it ended
//! session-key    what the secrets of workers' sessions are made with (`hub/enrol.rs`)
//! ```
//!
//! One object a merge, replaced in one step. How far a merge is stands in its output's own state.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use shardfuse_merge::plan::spec::MergeSpec;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{ErrorKind, Location, Stores, settled};

use crate::failure::{io, join};

/// The format that is written and read.
const FORMAT: u32 = 1;
/// The largest record that is read, in bytes.
const MAX_RECORD: u64 = 16 << 20;
/// Records that are read at a time.
const CONCURRENT: usize = 16;

/// Names a merge: the first 16 hex digits of BLAKE3 over its spec as JSON. The same spec is the same merge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MergeId(String);

impl MergeId {
    /// The id of a spec.
    pub fn of(spec: &MergeSpec) -> MergeId {
        // A struct of strings, numbers and lists in a fixed order: this cannot fail, and equal specs give equal bytes.
        let bytes = serde_json::to_vec(spec).unwrap_or_default();
        MergeId(blake3::hash(&bytes).to_hex().as_str()[..16].to_owned())
    }

    /// An id as it is written; `None` for what cannot be one.
    pub fn parse(text: &str) -> Option<MergeId> {
        let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (text.len() == 16 && hex).then(|| MergeId(text.to_owned()))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for MergeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a merge ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The output is published.
    Done,
    /// It failed.
    Failed {
        /// Which failure.
        kind: Kind,
        /// In words.
        message: String,
        /// What to do about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// Somebody wanted it to stop.
    Cancelled,
}

impl Outcome {
    /// A failure.
    pub fn failed(error: &Error) -> Outcome {
        Outcome::Failed {
            kind: error.kind(),
            message: error.message().to_owned(),
            hint: error.advice().map(str::to_owned),
        }
    }

    /// The failure, if it is one.
    pub fn error(&self) -> Option<Error> {
        let Outcome::Failed { kind, message, hint } = self else { return None };
        let error = Error::new(*kind, message.clone());
        Some(match hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        })
    }
}

/// The end of a merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// How.
    pub outcome: Outcome,
    /// The plan's digest, if it came to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The device class, if it came to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_class: Option<String>,
}

/// A merge as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// What is merged.
    pub spec: MergeSpec,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Higher goes first.
    pub priority: i32,
    /// When it was asked for, in milliseconds since 1970.
    pub submitted: u64,
    /// Discard what is in the output. Taken back once that was done: a restart of the coordinator must not discard again.
    #[serde(default)]
    pub restart: bool,
    /// Replace what is in the output. Taken back likewise.
    #[serde(default)]
    pub force: bool,
    /// The share of the parts that other workers compute again before publication.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub verify_parts: f64,
    /// Somebody wants it to stop; `true` also discards what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

impl Record {
    /// A merge that was just asked for.
    pub fn new(spec: MergeSpec, device: &str, priority: i32, submitted: u64) -> Record {
        Record {
            format: FORMAT,
            spec,
            device: device.to_owned(),
            priority,
            submitted,
            restart: false,
            force: false,
            verify_parts: 0.0,
            cancel: None,
            ended: None,
        }
    }
}

/// The records of one coordinator.
#[derive(Debug, Clone)]
pub struct Registry {
    stores: Arc<Stores>,
    state: Location,
    at: Location,
}

impl Registry {
    /// Records below a URL.
    pub fn new(stores: Arc<Stores>, state: &Location) -> Result<Registry> {
        Ok(Registry { stores, at: join(state, "merges")?, state: state.clone() })
    }

    /// The folder that the coordinator keeps for itself.
    pub fn state(&self) -> &Location {
        &self.state
    }

    /// Writes a record. When this returns, a coordinator that starts will find it.
    pub async fn put(&self, id: &MergeId, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record)
            .map_err(|e| Error::new(Kind::Internal, format!("merge {id} cannot be recorded: {e}")))?;
        self.stores.open(&self.at).put(&join(&self.at, id.as_str())?, bytes.into()).await.map_err(io)
    }

    /// Forgets a merge.
    pub async fn delete(&self, id: &MergeId) -> Result<()> {
        self.stores.open(&self.at).delete(&join(&self.at, id.as_str())?).await.map_err(io)
    }

    /// Everything, the oldest first. What is not named like a merge is left alone.
    pub async fn all(&self) -> Result<Vec<(MergeId, Record)>> {
        let store = self.stores.open(&self.at);
        let names: Vec<MergeId> =
            store.list(&self.at).await.map_err(io)?.into_iter().filter_map(|e| MergeId::parse(&e.name)).collect();
        let read = |id: MergeId| async move { Ok::<_, Error>(self.get(&id).await?.map(|record| (id, record))) };
        let found: Vec<_> =
            futures::stream::iter(names).map(read).buffer_unordered(CONCURRENT).boxed().try_collect().await?;
        let mut all: Vec<(MergeId, Record)> = found.into_iter().flatten().collect();
        all.sort_by(|(a, x), (b, y)| (x.submitted, a).cmp(&(y.submitted, b)));
        Ok(all)
    }

    async fn get(&self, id: &MergeId) -> Result<Option<Record>> {
        let at = join(&self.at, id.as_str())?;
        let store = self.stores.open(&at);
        let read = match settled::read(&*store, &at, MAX_RECORD, |b| serde_json::from_slice::<Record>(b)).await {
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        let record = read.map_err(|e| {
            Error::new(Kind::Io, format!("{at} is not the record of a merge: {e}"))
                .hint("move it away to start without that merge")
        })?;
        if record.format != FORMAT {
            return Err(Error::new(
                Kind::Unsupported,
                format!("{at} has format {}, this version reads {FORMAT}", record.format),
            ));
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::plan::spec::LoraSpec;
    use shardfuse_store::Store as _;
    use shardfuse_store::memory::Memory;

    use super::*;

    fn spec(output: &str) -> MergeSpec {
        MergeSpec {
            base: "s3://b/base".into(),
            lora: vec![LoraSpec { path: "s3://b/lora".into(), weight: 1.0 }],
            output: output.into(),
            dtype: Default::default(),
            max_shard_size: None,
            part_size: 1 << 20,
            dora_norm: Default::default(),
            partial_weight: false,
            tokenizer: Default::default(),
            tied: None,
            extra_weights: Vec::new(),
            ignore_files: Vec::new(),
        }
    }

    #[test]
    fn an_id_depends_on_the_spec_alone_and_is_hex() {
        let id = MergeId::of(&spec("s3://b/out"));
        assert_eq!(id, MergeId::of(&spec("s3://b/out")));
        assert_ne!(id, MergeId::of(&spec("s3://b/other")));
        assert_eq!(MergeId::parse(id.as_str()), Some(id));
        for bad in ["", "0123", "0123456789abcdeF", "../../../../etc/x", "0123456789abcdef0"] {
            assert_eq!(MergeId::parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn records_come_back_in_the_order_of_submission() {
        let stores = Arc::new(Stores::all(Arc::new(Memory::new())));
        let registry = Registry::new(stores, &"s3://b/state".parse().unwrap()).unwrap();
        let mut expected = Vec::new();
        for (submitted, output) in [(3, "s3://b/c"), (1, "s3://b/a"), (2, "s3://b/b")] {
            let mut record = Record::new(spec(output), "cpu", 7, submitted);
            let error = Error::new(Kind::NonFinite, "NaN").hint("look");
            record.ended = Some(Ended { at: 9, outcome: Outcome::failed(&error), plan: None, device_class: None });
            assert_eq!(record.ended.as_ref().unwrap().outcome.error(), Some(error));
            registry.put(&MergeId::of(&record.spec), &record).await.unwrap();
            expected.push(record);
        }
        expected.sort_by_key(|r| r.submitted);
        let all: Vec<Record> = registry.all().await.unwrap().into_iter().map(|(_, r)| r).collect();
        assert_eq!(all, expected);
        registry.delete(&MergeId::of(&spec("s3://b/a"))).await.unwrap();
        assert_eq!(registry.all().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_torn_read_of_a_record_is_read_again_and_a_bad_record_is_named() {
        let memory = Arc::new(Memory::new());
        let stores = Arc::new(Stores::all(memory.clone()));
        let registry = Registry::new(stores, &"s3://b/state".parse().unwrap()).unwrap();
        let record = Record::new(spec("s3://b/a"), "cpu", 7, 1);
        let id = MergeId::of(&record.spec);
        let at: Location = format!("s3://b/state/merges/{id}").parse().unwrap();
        // The older version is shorter: what is read of the newer one under its length is no record.
        memory.put(&at, "{}".into()).await.unwrap();
        memory.tear(&at, serde_json::to_vec(&record).unwrap().into());
        assert_eq!(registry.get(&id).await.unwrap(), Some(record));
        memory.put(&at, "{}".into()).await.unwrap();
        assert!(registry.get(&id).await.is_err());
    }
}
