//! Files in memory, which a test may change while they are served.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Files by their path without a leading slash. Clones are the same files.
#[derive(Clone, Debug, Default)]
pub struct Files(Arc<Mutex<BTreeMap<String, File>>>);

/// A file's content, and how often it was written.
#[derive(Clone, Debug)]
pub struct File {
    pub bytes: Vec<u8>,
    pub written: u32,
}

impl Files {
    /// The files below a folder.
    #[allow(clippy::disallowed_methods, reason = "tests read fixtures as they are")]
    pub fn of_folder(folder: &Path) -> Self {
        let files = Self::default();
        let mut waiting = vec![folder.to_owned()];
        while let Some(dir) = waiting.pop() {
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    waiting.push(path);
                } else {
                    let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                    files.write(&name, std::fs::read(&path).unwrap());
                }
            }
        }
        files
    }

    /// Writes a file, replacing an older one.
    pub fn write(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        let mut files = self.0.lock().unwrap();
        let written = files.get(name).map_or(0, |file| file.written + 1);
        files.insert(name.to_owned(), File { bytes: bytes.into(), written });
    }

    pub fn remove(&self, name: &str) {
        self.0.lock().unwrap().remove(name);
    }

    pub fn get(&self, name: &str) -> Option<File> {
        self.0.lock().unwrap().get(name).cloned()
    }

    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }

    /// A copy that goes its own way.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }
}
