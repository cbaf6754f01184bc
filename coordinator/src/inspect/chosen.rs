//! Which files hold the tensors of a base or an adapter, and their headers.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use shardfuse_merge::checkpoint::index::{Index, MAX_INDEX};
use shardfuse_merge::inventory::{Object, Source};
use shardfuse_merge::{Error, Kind, Result};

use super::folder::Folder;
use super::objects::{CONCURRENT, Objects};
use super::weights::{self, Weights};
use crate::failure::join;

/// The most tensors of one base or adapter. The largest models of today have some hundred thousand.
const MAX_TENSORS: usize = 1_000_000;

/// The files that a loader would take.
pub(super) struct Chosen {
    /// The weight files, in order of their names.
    files: Vec<String>,
    index: Option<Indexed>,
}

struct Indexed {
    name: String,
    index: Index,
    object: Object,
}

/// A weight file and what its header says.
pub(super) struct Headed {
    pub(super) name: String,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: Vec<Source>,
    pub(super) skipped: Vec<String>,
}

impl Chosen {
    /// The single file, else those that the index names; safetensors before pickles, as transformers and PEFT choose.
    /// `None` if there is none of these.
    pub(super) async fn of(folder: &Folder, safetensors: &str, pickle: &str) -> Result<Option<Chosen>> {
        for single in [format!("{safetensors}.safetensors"), format!("{pickle}.bin")] {
            if folder.has(&single) {
                return Ok(Some(Chosen { files: vec![single], index: None }));
            }
            let name = format!("{single}.index.json");
            if folder.has(&name) {
                let (bytes, object) = folder.read(&name, MAX_INDEX).await?;
                let index = Index::parse(&bytes).map_err(|e| e.at(format!("{}/{name}", folder.at())))?;
                let files = index.files().into_iter().map(str::to_owned).collect();
                return Ok(Some(Chosen { files, index: Some(Indexed { name, index, object }) }));
            }
        }
        Ok(None)
    }

    /// The names of the files, the index first.
    pub(super) fn names(&self) -> Vec<String> {
        self.index.iter().map(|i| &i.name).chain(&self.files).cloned().collect()
    }

    pub(super) fn is_indexed(&self) -> bool {
        self.index.is_some()
    }

    /// Reads the headers, and holds them against the index.
    pub(super) async fn read(&self, folder: &Folder, objects: &mut Objects) -> Result<Vec<Headed>> {
        let read = read_files(folder, objects, self.files.clone()).await?;
        let Some(indexed) = &self.index else { return Ok(read) };
        objects.add(indexed.object.clone());
        let held = read.iter().flat_map(|s| s.tensors.iter().map(|t| (s.name.as_str(), t.name.as_str())));
        indexed.index.check(held).map_err(|e| e.at(folder.path()))?;
        Ok(read)
    }
}

/// Reads the headers of files.
pub(super) async fn read_files(folder: &Folder, objects: &mut Objects, names: Vec<String>) -> Result<Vec<Headed>> {
    let mut all: Vec<Headed> = Vec::with_capacity(names.len());
    let mut tensors = 0;
    let mut reads = futures::stream::iter(names)
        .map(|name| async move {
            let read = weights::read(folder.store(), &join(folder.at(), &name)?).await.map_err(|e| match e.kind() {
                Kind::MissingFile => {
                    let message = format!("the index names {name}, which is not in {}", folder.at());
                    Error::new(Kind::MissingFile, message)
                }
                _ => e,
            })?;
            Ok::<(String, Weights), Error>((name, read))
        })
        .buffered(CONCURRENT)
        .boxed();
    while let Some((name, weights)) = reads.try_next().await? {
        tensors += weights.tensors.len();
        if tensors > MAX_TENSORS {
            let message = format!("{} holds more than {MAX_TENSORS} tensors, the last of them in {name}", folder.at());
            return Err(Error::new(Kind::Unsupported, message));
        }
        let object = objects.add(weights.object);
        let source = |t: shardfuse_merge::checkpoint::header::TensorEntry| Source {
            name: t.name,
            object,
            offset: t.offset,
            dtype: t.dtype,
            shape: t.shape,
        };
        let tensors = weights.tensors.into_iter().map(source).collect();
        all.push(Headed { name, metadata: weights.metadata, tensors, skipped: weights.skipped });
    }
    Ok(all)
}
