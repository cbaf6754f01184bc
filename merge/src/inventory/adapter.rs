//! What was read of an adapter.

use super::base::Sidecar;
use super::source::Source;
use crate::adapter::config::AdapterConfig;
use crate::checkpoint::files::FileFate;

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
