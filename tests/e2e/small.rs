//! A small base, and adapters of it.

use std::path::PathBuf;

use shardfuse_testkit::checkpoint::{Model, lora};

/// A folder with a base.
pub struct Small {
    dir: tempfile::TempDir,
    pub base: PathBuf,
}

impl Small {
    pub fn new() -> Small {
        let dir = tempfile::tempdir().unwrap();
        let base = Model::SMALL.write(&dir.path().join("base"));
        Small { dir, base }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An adapter whose deltas bf16 holds well.
    pub fn adapter(&self, name: &str) -> String {
        lora(&self.at(name), &Model::SMALL, 4, name).to_str().unwrap().to_owned()
    }
}
