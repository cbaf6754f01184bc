//! What was read before planning: headers, configurations, sizes and pins. No tensor data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::adapter::config::AdapterConfig;
use crate::checkpoint::files::FileFate;
use crate::tensor::Dtype;

/// An input object by its number in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId(pub u32);

/// An input object and what it is held to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Object {
    /// Where it lies.
    pub url: String,
    /// Its size in bytes.
    pub size: u64,
    /// The store's pin.
    pub pin: String,
    /// BLAKE3 of what was read of it for planning (header or whole configuration), as hex.
    pub seen: String,
}

/// A tensor in an input object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The tensor's name in its checkpoint.
    pub name: String,
    /// The object.
    pub object: ObjectId,
    /// The first byte in the object.
    pub offset: u64,
    /// The element type.
    pub dtype: Dtype,
    /// The shape.
    pub shape: Vec<u64>,
}

impl Source {
    /// The number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// The length in bytes.
    pub fn bytes(&self) -> u64 {
        self.elements() * self.dtype.bitsize() as u64 / 8
    }
}

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
    /// Whether input and output embedding of the files hold the same values; `None` where nobody has to know
    /// ([`super::tie::to_compare`]).
    pub head_is_embedding: Option<bool>,
    /// What becomes of each of its files.
    pub files: Vec<FileFate>,
    /// Keys of its pickles that hold no tensor.
    pub skipped: Vec<String>,
    /// Whether its store told all files that it holds.
    pub listed: bool,
}

/// A file beside an adapter whose tensors replace those of the base.
#[derive(Debug, Clone)]
pub struct ExtraFile {
    /// The name below the adapter's folder.
    pub name: String,
    /// Its tensors, in the order of their data.
    pub tensors: Vec<Source>,
}

/// An adapter.
#[derive(Debug, Clone)]
pub struct AdapterInventory {
    /// Where it lies.
    pub url: String,
    /// Its configuration.
    pub config: AdapterConfig,
    /// Its tensors, in the order of their files and data.
    pub tensors: Vec<Source>,
    /// Files beside them that hold replacements.
    pub extra: Vec<ExtraFile>,
    /// Its tokenizer files.
    pub sidecars: Vec<Sidecar>,
    /// Keys of its pickles that hold no tensor.
    pub skipped: Vec<String>,
    /// What becomes of each of its files.
    pub files: Vec<FileFate>,
}

impl AdapterInventory {
    /// The tensors of its own files and of those beside them.
    pub fn all_tensors(&self) -> impl Iterator<Item = &Source> {
        self.tensors.iter().chain(self.extra.iter().flat_map(|file| &file.tensors))
    }
}

/// A folder whose tokenizer is asked for.
#[derive(Debug, Clone)]
pub struct TokenizerInventory {
    /// Its tokenizer files.
    pub sidecars: Vec<Sidecar>,
    /// What becomes of each of its files.
    pub files: Vec<FileFate>,
}

/// All that was read.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// Every object, by [`ObjectId`].
    pub objects: Vec<Object>,
    /// The base.
    pub base: BaseInventory,
    /// The adapters, one for each entry of the spec, in its order.
    pub adapters: Vec<AdapterInventory>,
    /// Another folder whose tokenizer files are asked for.
    pub tokenizer: Option<TokenizerInventory>,
}
