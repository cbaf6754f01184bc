//! Reads headers and configurations of base and adapters into an inventory. Never tensor data.

use std::sync::Arc;

use shardfuse_merge::adapter::config::AdapterConfig;
use shardfuse_merge::checkpoint::index::Index;
use shardfuse_merge::checkpoint::sidecar;
use shardfuse_merge::plan::inventory::{
    AdapterInventory, BaseInventory, Inventory, Object, ObjectId, Shard, Sidecar, Source,
};
use shardfuse_merge::plan::spec::{MergeSpec, Tokenizer};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{ErrorKind, Location, Store, Stores};

use crate::failure::{io, join, location};

mod weights;

pub use weights::{Weights, read as read_weights};

/// The largest configuration or index that is read, in bytes.
const MAX_CONFIG: u64 = 256 << 20;
/// Headers that are read at a time.
const CONCURRENT: usize = 8;

/// The objects that were read, numbered.
#[derive(Debug, Default)]
pub struct Objects {
    list: Vec<Object>,
}

impl Objects {
    /// Notes an object; one that is noted twice keeps its number.
    pub fn add(&mut self, object: Object) -> ObjectId {
        let at = self.list.iter().position(|o| *o == object).unwrap_or_else(|| {
            self.list.push(object);
            self.list.len() - 1
        });
        ObjectId(at as u32)
    }

    /// The name of the file that an object is.
    pub fn file_name(&self, id: ObjectId) -> &str {
        self.list[id.0 as usize].url.rsplit('/').next().unwrap_or_default()
    }
}

/// Reads what the spec names.
pub async fn inspect(stores: &Stores, spec: &MergeSpec) -> Result<Inventory> {
    let mut objects = Objects::default();
    let base = base(stores, &spec.base, &mut objects).await?;
    let mut adapters = Vec::with_capacity(spec.lora.len());
    for lora in &spec.lora {
        adapters.push(adapter(stores, &lora.path, &mut objects).await.map_err(|e| placed(e, &lora.path))?);
    }
    let tokenizer = match &spec.tokenizer {
        Tokenizer::Folder(path) => {
            let found = sidecars(&folder(stores, path).await?, &mut objects, sidecar::is_tokenizer).await?;
            if found.is_empty() {
                return Err(Error::new(Kind::MissingFile, format!("{path} holds no tokenizer files")));
            }
            Some(found)
        }
        Tokenizer::Auto | Tokenizer::Base => None,
    };
    Ok(Inventory { objects: objects.list, base, adapters, tokenizer })
}

/// Puts the folder before a message that does not name it yet.
fn placed(error: Error, path: &str) -> Error {
    if error.message().contains(path) { error } else { error.at(path) }
}

/// A folder that is read: its store, place, and files.
pub struct Folder {
    store: Arc<dyn Store>,
    at: Location,
    files: Vec<String>,
}

/// Lists a folder.
pub async fn folder(stores: &Stores, path: &str) -> Result<Folder> {
    let at = location(path)?;
    let store = stores.open(&at);
    let files: Vec<String> = store.list(&at).await.map_err(io)?.into_iter().map(|e| e.name).collect();
    if files.is_empty() {
        return Err(Error::new(Kind::MissingFile, format!("{path} is not there, or holds no files"))
            .hint("name the folder that holds config.json or adapter_config.json"));
    }
    Ok(Folder { store, at, files })
}

impl Folder {
    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|f| f == name)
    }

    /// A whole small file and its object.
    async fn read(&self, name: &str) -> Result<(Vec<u8>, Object)> {
        let at = join(&self.at, name)?;
        let (bytes, meta) = self.store.get(&at, MAX_CONFIG).await.map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::new(Kind::MissingFile, format!("{} has no {name}", self.at)),
            _ => io(e),
        })?;
        let seen = blake3::hash(&bytes).to_hex().to_string();
        let object = Object { url: at.to_string(), size: meta.size, pin: meta.pin.as_str().to_owned(), seen };
        Ok((bytes.to_vec(), object))
    }
}

/// Reads a base checkpoint.
pub async fn base(stores: &Stores, path: &str, objects: &mut Objects) -> Result<BaseInventory> {
    let folder = folder(stores, path).await?;
    let (config_bytes, object) = folder.read("config.json").await?;
    objects.add(object);
    let config = serde_json::from_slice::<serde_json::Value>(&config_bytes)
        .map_err(|e| Error::new(Kind::BadConfig, format!("{path}/config.json is not JSON: {e}")))?;
    if !config.is_object() {
        return Err(Error::new(Kind::BadConfig, format!("{path}/config.json is not a JSON object")));
    }
    let (names, index) = weight_files(&folder).await?;
    if let Some((_, object)) = &index {
        objects.add(object.clone());
    }
    let index = index.map(|(index, _)| index);
    let shards = shards(&folder, names, objects).await?;
    if let Some(index) = &index {
        let held = shards.iter().flat_map(|s| s.tensors.iter().map(|t| (s.name.as_str(), t.name.as_str())));
        index.check(held).map_err(|e| e.at(path))?;
    }
    let sidecars = sidecars(&folder, objects, sidecar::travels).await?;
    Ok(BaseInventory { url: path.to_owned(), config_bytes, config, shards, indexed: index.is_some(), sidecars })
}

/// Which files hold the weights: the single file, else those that the index names. safetensors before pickles, as
/// transformers chooses.
async fn weight_files(folder: &Folder) -> Result<(Vec<String>, Option<(Index, Object)>)> {
    for (single, index) in
        [("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", "pytorch_model.bin.index.json")]
    {
        if folder.has(single) {
            return Ok((vec![single.to_owned()], None));
        }
        if folder.has(index) {
            let (bytes, object) = folder.read(index).await?;
            let parsed = Index::parse(&bytes).map_err(|e| e.at(format!("{}/{index}", folder.at)))?;
            return Ok((parsed.files().into_iter().map(str::to_owned).collect(), Some((parsed, object))));
        }
    }
    Err(Error::new(
        Kind::MissingFile,
        format!("{} holds none of model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json", folder.at),
    )
    .hint("a base is a Hugging Face folder; convert other formats with transformers first"))
}

async fn shards(folder: &Folder, names: Vec<String>, objects: &mut Objects) -> Result<Vec<Shard>> {
    use futures::{StreamExt, TryStreamExt};
    let all: Vec<(String, Weights)> = futures::stream::iter(names)
        .map(|name| async move {
            let weights =
                weights::read(&*folder.store, &join(&folder.at, &name)?).await.map_err(|e| match e.kind() {
                    Kind::MissingFile => {
                        Error::new(Kind::MissingFile, format!("the index names {name}, which is not in {}", folder.at))
                    }
                    _ => e,
                })?;
            Ok::<_, Error>((name, weights))
        })
        .buffered(CONCURRENT)
        .try_collect()
        .await?;
    Ok(all
        .into_iter()
        .map(|(name, weights)| {
            let object = objects.add(weights.object.clone());
            Shard { name, metadata: weights.metadata, tensors: sources(object, weights.tensors) }
        })
        .collect())
}

fn sources(object: ObjectId, tensors: Vec<shardfuse_merge::checkpoint::header::TensorEntry>) -> Vec<Source> {
    tensors
        .into_iter()
        .map(|t| Source { name: t.name, object, offset: t.offset, dtype: t.dtype, shape: t.shape })
        .collect()
}

/// Reads an adapter.
pub async fn adapter(stores: &Stores, path: &str, objects: &mut Objects) -> Result<AdapterInventory> {
    let folder = folder(stores, path).await?;
    if !folder.has("adapter_config.json") {
        return Err(Error::new(Kind::MissingFile, "the folder has no adapter_config.json")
            .hint("name the folder that PEFT's save_pretrained wrote"));
    }
    let (bytes, object) = folder.read("adapter_config.json").await?;
    objects.add(object);
    let config = AdapterConfig::parse(&bytes)?;
    let Some(name) = ["adapter_model.safetensors", "adapter_model.bin"].into_iter().find(|n| folder.has(n)) else {
        return Err(Error::new(
            Kind::MissingFile,
            "the folder has neither adapter_model.safetensors nor adapter_model.bin",
        ));
    };
    let weights = weights::read(&*folder.store, &join(&folder.at, name)?).await?;
    let object = objects.add(weights.object.clone());
    let sidecars = sidecars(&folder, objects, sidecar::is_tokenizer).await?;
    Ok(AdapterInventory {
        url: path.to_owned(),
        config,
        tensors: sources(object, weights.tensors),
        sidecars,
        skipped: weights.skipped,
    })
}

async fn sidecars(folder: &Folder, objects: &mut Objects, wanted: impl Fn(&str) -> bool) -> Result<Vec<Sidecar>> {
    let mut found = Vec::new();
    for name in folder.files.iter().filter(|n| wanted(n)) {
        let at = join(&folder.at, name)?;
        let meta = folder.store.head(&at).await.map_err(io)?;
        let object =
            Object { url: at.to_string(), size: meta.size, pin: meta.pin.as_str().to_owned(), seen: String::new() };
        found.push(Sidecar { name: name.clone(), object: objects.add(object) });
    }
    Ok(found)
}
