//! All inputs of a merge.

use super::adapter::AdapterInventory;
use super::base::{BaseInventory, Sidecar};
use super::grain::Grain;
use super::source::Object;
use crate::checkpoint::files::FileFate;

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
    /// Every object, by [`super::ObjectId`].
    pub objects: Vec<Object>,
    /// The base.
    pub base: BaseInventory,
    /// The adapters, one for each entry of the spec, in its order.
    pub adapters: Vec<AdapterInventory>,
    /// Another folder whose tokenizer files are asked for.
    pub tokenizer: Option<TokenizerInventory>,
    /// How fine files are cut where the store of the output copies what does not change by itself; `None` where it does not.
    pub grain: Option<Grain>,
}
