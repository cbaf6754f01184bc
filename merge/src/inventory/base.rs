//! What was read of a base.

use std::collections::BTreeMap;

use serde_json::Value;

use super::comparison::Comparison;
use super::source::{ObjectId, Source};
use crate::checkpoint::files::FileFate;

/// One weight file of the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// The file's name.
    pub name: String,
    /// The `__metadata__` of its header.
    pub metadata: BTreeMap<String, String>,
    /// Its tensors, in the order of their data.
    pub tensors: Vec<Source>,
}

/// The bytes of small tensors, by their names.
pub type SmallTensors = BTreeMap<String, Vec<u8>>;

/// A file that travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// The name below the folder.
    pub name: String,
    /// The object.
    pub object: ObjectId,
}

/// The base checkpoint.
#[derive(Debug, Clone)]
pub struct BaseInventory {
    /// Where it lies.
    pub url: String,
    /// `config.json` as it stands.
    pub config_bytes: Vec<u8>,
    /// `config.json`, parsed.
    pub config: Value,
    /// The weight files in order.
    pub shards: Vec<Shard>,
    /// Whether an index names the files.
    pub indexed: bool,
    /// Files that travel.
    pub sidecars: Vec<Sidecar>,
    /// Those of them that repeat how the checkpoint is quantised, parsed.
    pub repeated: Vec<(String, Value)>,
    /// Its model card, where one was read for the card of the output.
    pub card: Option<String>,
    /// The tied copies in its files that were compared, as far as a plan depends on it ([`crate::plan::copies`]).
    pub compared: Vec<Comparison>,
    /// The small tensors that carry layout ([`crate::base::scheme::small`]).
    pub small: SmallTensors,
    /// What becomes of each of its files.
    pub files: Vec<FileFate>,
    /// Keys of its pickles that hold no tensor.
    pub skipped: Vec<String>,
    /// Whether its store told all files that it holds.
    pub listed: bool,
}
