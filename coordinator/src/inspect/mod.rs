//! Reads headers and configurations of base and adapters into an inventory. Tensor data is read only to compare the two
//! embeddings of a base that says that it is tied and holds both.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt};
use shardfuse_merge::adapter::config::AdapterConfig;
use shardfuse_merge::checkpoint::index::Index;
use shardfuse_merge::checkpoint::sidecar;
use shardfuse_merge::plan::inventory::{AdapterInventory, BaseInventory, Inventory, Object, ObjectId, Shard, Source};
use shardfuse_merge::plan::spec::{MergeSpec, Tokenizer};
use shardfuse_merge::plan::tie;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::Stores;

use crate::equal;
use crate::failure::join;

mod folder;
#[cfg(test)]
mod tests;
mod weights;

pub use folder::Folder;
pub use weights::{Weights, read as read_weights};

/// Headers and names that are asked for at a time.
const CONCURRENT: usize = 16;

/// The objects that were read, numbered.
#[derive(Debug, Default)]
pub struct Objects {
    list: Vec<Object>,
    numbers: HashMap<Object, ObjectId>,
}

impl Objects {
    /// Notes an object; one that is noted twice keeps its number.
    pub fn add(&mut self, object: Object) -> ObjectId {
        let next = ObjectId(self.list.len() as u32);
        *self.numbers.entry(object).or_insert_with_key(|object| {
            self.list.push(object.clone());
            next
        })
    }

    /// The name of the file that an object is.
    pub fn file_name(&self, id: ObjectId) -> &str {
        self.list[id.0 as usize].url.rsplit('/').next().unwrap_or_default()
    }
}

/// Reads what the spec names.
pub async fn inspect(stores: &Stores, spec: &MergeSpec) -> Result<Inventory> {
    let mut objects = Objects::default();
    let mut base = base(&Folder::open(stores, &spec.base).await?, &mut objects).await?;
    let mut adapters = Vec::with_capacity(spec.lora.len());
    for lora in &spec.lora {
        let read = async { adapter(&Folder::open(stores, &lora.path).await?, &mut objects).await };
        adapters.push(read.await.map_err(|e| placed(e, &lora.path))?);
    }
    let twins = tie::to_compare(&base, &adapters, spec.tied).map(|(input, output)| (input.clone(), output.clone()));
    if let Some((input, output)) = twins {
        base.head_is_embedding = Some(equal::same(stores, &objects.list, &input, &output).await?);
    }
    let tokenizer = match &spec.tokenizer {
        Tokenizer::Folder(path) => {
            let found = Folder::open(stores, path).await?.sidecars(&mut objects, sidecar::is_tokenizer).await?;
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

/// Reads a base checkpoint.
pub async fn base(folder: &Folder, objects: &mut Objects) -> Result<BaseInventory> {
    let path = folder.path();
    let (config_bytes, object) = folder.read("config.json").await?;
    objects.add(object);
    let config = serde_json::from_slice::<serde_json::Value>(&config_bytes)
        .map_err(|e| Error::new(Kind::BadConfig, format!("{path}/config.json is not JSON: {e}")))?;
    if !config.is_object() {
        return Err(Error::new(Kind::BadConfig, format!("{path}/config.json is not a JSON object")));
    }
    let (names, index) = weight_files(folder).await?;
    if let Some((_, object)) = &index {
        objects.add(object.clone());
    }
    let index = index.map(|(index, _)| index);
    let shards = shards(folder, names, objects).await?;
    if let Some(index) = &index {
        let held = shards.iter().flat_map(|s| s.tensors.iter().map(|t| (s.name.as_str(), t.name.as_str())));
        index.check(held).map_err(|e| e.at(path))?;
    }
    let sidecars = folder.sidecars(objects, sidecar::travels).await?;
    Ok(BaseInventory {
        url: path.to_owned(),
        config_bytes,
        config,
        shards,
        indexed: index.is_some(),
        sidecars,
        head_is_embedding: None,
    })
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
            let parsed = Index::parse(&bytes).map_err(|e| e.at(format!("{}/{index}", folder.at())))?;
            return Ok((parsed.files().into_iter().map(str::to_owned).collect(), Some((parsed, object))));
        }
    }
    Err(Error::new(
        Kind::MissingFile,
        format!("{} holds none of model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json", folder.at()),
    )
    .hint("a base is a Hugging Face folder; convert other formats with transformers first"))
}

async fn shards(folder: &Folder, names: Vec<String>, objects: &mut Objects) -> Result<Vec<Shard>> {
    let all: Vec<(String, Weights)> = futures::stream::iter(names)
        .map(|name| async move {
            let weights =
                weights::read(folder.store(), &join(folder.at(), &name)?).await.map_err(|e| match e.kind() {
                    Kind::MissingFile => Error::new(
                        Kind::MissingFile,
                        format!("the index names {name}, which is not in {}", folder.at()),
                    ),
                    _ => e,
                })?;
            Ok::<_, Error>((name, weights))
        })
        .buffered(CONCURRENT)
        .boxed()
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
pub async fn adapter(folder: &Folder, objects: &mut Objects) -> Result<AdapterInventory> {
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
    let weights = weights::read(folder.store(), &join(folder.at(), name)?).await?;
    let object = objects.add(weights.object.clone());
    let sidecars = folder.sidecars(objects, sidecar::is_tokenizer).await?;
    Ok(AdapterInventory {
        url: folder.path().to_owned(),
        config,
        tensors: sources(object, weights.tensors),
        sidecars,
        skipped: weights.skipped,
    })
}
