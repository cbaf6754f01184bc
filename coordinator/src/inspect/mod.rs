//! Reads headers and configurations of base and adapters into an inventory. Tensor data is read only where it is
//! small and carries layout, and to compare the stored copies of tied parameters that an adapter changes.
//!
//! What becomes of each file, `shardfuse_merge::checkpoint::files` decides; here it is read.

use shardfuse_merge::adapter::config::AdapterConfig;
use shardfuse_merge::base::quantisation;
use shardfuse_merge::checkpoint::files::{self, Asked, Fate, FileFate};
use shardfuse_merge::checkpoint::meant::Wanted;
use shardfuse_merge::checkpoint::sidecar;
use shardfuse_merge::inventory::{
    AdapterInventory, BaseInventory, Comparison, ExtraFile, Inventory, Shard, Sidecar, TokenizerInventory,
};
use shardfuse_merge::json::{self, MAX_CONFIG};
use shardfuse_merge::output::card::{CARD, MAX_CARD};
use shardfuse_merge::plan::copies;
use shardfuse_merge::spec::{Card, MergeSpec, Purpose, Tokenizer};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::Stores;

use crate::apart::apart;
use crate::equal;
use crate::failure::location;

mod chosen;
mod folder;
mod grain;
mod objects;
mod small;
#[cfg(test)]
mod tests;
mod weights;

use chosen::Chosen;
pub use folder::Folder;
pub use objects::Objects;
pub use weights::{Weights, read as read_weights};

/// Reads what the spec names.
pub async fn inspect(stores: &Stores, spec: &MergeSpec) -> Result<Inventory> {
    let mut objects = Objects::default();
    let named: Vec<String> = spec.extra_weights.iter().chain(&spec.ignore_files).cloned().collect();
    let mut met: Vec<String> = Vec::new();
    let folder = Folder::open(stores, &spec.base, Wanted::Checkpoint, &spec.ignore_files).await?;
    met.extend(folder.found().into_iter().map(|f| f.name));
    let inner = inner(spec, &spec.base)?;
    let asked = Asked { ignore: &spec.ignore_files, inner: &inner, ..Asked::default() };
    let mut base = base(&folder, &mut objects, &asked).await?;
    if spec.card == Card::Auto {
        base.card = card(&folder, &mut objects, &base).await?;
    }
    let mut of_adapters: Vec<String> = Vec::new();
    let mut adapters = Vec::with_capacity(spec.lora.len());
    for lora in &spec.lora {
        let inner = self::inner(spec, &lora.path)?;
        let asked = Asked { extra: &spec.extra_weights, ignore: &spec.ignore_files, inner: &inner, look: false };
        let read = async {
            let folder = Folder::open(stores, &lora.path, Wanted::Adapter, &named).await?;
            of_adapters.extend(folder.found().into_iter().map(|f| f.name));
            adapter(&folder, &mut objects, &asked).await
        };
        adapters.push(read.await.map_err(|e| placed(e, &lora.path))?);
    }
    let tied = spec.tied;
    let (mut base, adapters, copies) = apart(move |cancel| {
        let copies = copies::to_compare(&base, &adapters, tied, cancel);
        (base, adapters, copies)
    })
    .await?;
    let copies = copies?;
    let mut compared = Vec::with_capacity(copies.len());
    for (left, right) in copies {
        let (same, read) = equal::same(stores, &objects.list, &left, &right).await?;
        compared.push(Comparison { left: left.name, right: right.name, same, read });
    }
    base.compared = compared;
    let tokenizer = match &spec.tokenizer {
        Tokenizer::Folder(path) => {
            let folder = Folder::open(stores, path, Wanted::Checkpoint, &[]).await?;
            Some(tokenizer(&folder, &mut objects).await.map_err(|e| placed(e, path))?)
        }
        Tokenizer::Auto | Tokenizer::Base => None,
    };
    files::all_met("--extra-weights", &spec.extra_weights, of_adapters.iter().map(String::as_str))?;
    files::all_met("--ignore-file", &spec.ignore_files, met.iter().chain(&of_adapters).map(String::as_str))?;
    let grain = grain::grain(stores, spec, &base, &objects.list).await;
    Ok(Inventory { objects: objects.list, base, adapters, tokenizer, grain })
}

/// The base or adapters that lie in the folder of another one, as they are named below it.
fn inner(spec: &MergeSpec, folder: &str) -> Result<Vec<String>> {
    let outer = format!("{}/", location(folder)?);
    let mut inner = Vec::new();
    let inputs = spec.places().filter(|(purpose, _)| matches!(purpose, Purpose::Base | Purpose::Lora));
    for (_, input) in inputs {
        let at = location(input)?.to_string();
        inner.extend(at.strip_prefix(&outer).map(|name| format!("{name}/")));
    }
    Ok(inner)
}

/// Puts the folder before a message that does not name it yet.
fn placed(error: Error, path: &str) -> Error {
    if error.message().contains(path) { error } else { error.at(path) }
}

/// The names of the files that travel.
fn travelling(files: &[FileFate]) -> Vec<String> {
    files.iter().filter(|f| f.fate == Fate::Travels).map(|f| f.name.clone()).collect()
}

/// Reads a base checkpoint.
///
/// # Errors
/// The refusals of configuration, index, headers and files, each naming the file.
pub async fn base(folder: &Folder, objects: &mut Objects, asked: &Asked<'_>) -> Result<BaseInventory> {
    let path = folder.path();
    folder.expect(Wanted::Checkpoint)?;
    let (config_bytes, object) = folder.read("config.json", MAX_CONFIG).await?;
    objects.add(object);
    let config = json::parse(&format!("{path}/config.json"), &config_bytes)?;
    if !config.is_object() {
        return Err(Error::new(Kind::BadConfig, format!("{path}/config.json is not a JSON object")));
    }
    let chosen = Chosen::of(folder, "model", "pytorch_model").await?.ok_or_else(|| {
        let names = "model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json";
        Error::new(Kind::MissingFile, format!("{} holds none of {names}", folder.at()))
            .hint("a base is a Hugging Face folder; convert other formats with transformers first")
    })?;
    let files = files::base(&folder.found(), &chosen.names(), asked).map_err(|e| placed(e, path))?;
    let read = chosen.read(folder, objects).await?;
    let sidecars = folder.sidecars(objects, travelling(&files)).await?;
    let mut repeated = Vec::new();
    for Sidecar { name, .. } in sidecars.iter().filter(|sidecar| quantisation::is_repeated_in(&sidecar.name)) {
        let (bytes, object) = folder.read(name, MAX_CONFIG).await?;
        objects.add(object);
        // What is no JSON cannot be changed; it is left out where it would have to be.
        repeated.extend(json::parse(name, &bytes).ok().map(|held| (name.clone(), held)));
    }
    let mut skipped = Vec::new();
    let mut shards = Vec::with_capacity(read.len());
    for file in read {
        skipped.extend(file.skipped);
        shards.push(Shard { name: file.name, metadata: file.metadata, tensors: file.tensors });
    }
    let small = small::read(folder.store(), objects, &shards).await?;
    Ok(BaseInventory {
        url: path.to_owned(),
        config_bytes,
        config,
        shards,
        indexed: chosen.is_indexed(),
        sidecars,
        repeated,
        card: None,
        compared: Vec::new(),
        small,
        files,
        skipped,
        listed: folder.is_listed(),
    })
}

/// The base's model card, if it has one that is not too long.
async fn card(folder: &Folder, objects: &mut Objects, base: &BaseInventory) -> Result<Option<String>> {
    let Some(Sidecar { object, .. }) = base.sidecars.iter().find(|sidecar| sidecar.name == CARD) else {
        return Ok(None);
    };
    if objects.list[object.0 as usize].size > MAX_CARD {
        return Ok(None);
    }
    let (bytes, object) = folder.read(CARD, MAX_CARD).await?;
    objects.add(object);
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Reads an adapter.
///
/// # Errors
/// The refusals of configuration, index, headers and files. They need not name the folder.
pub async fn adapter(folder: &Folder, objects: &mut Objects, asked: &Asked<'_>) -> Result<AdapterInventory> {
    folder.expect(Wanted::Adapter)?;
    let (bytes, object) = folder.read("adapter_config.json", MAX_CONFIG).await?;
    objects.add(object);
    let config = AdapterConfig::parse(&bytes)?;
    let chosen = Chosen::of(folder, "adapter_model", "adapter_model").await?.ok_or_else(|| {
        Error::new(Kind::MissingFile, "the folder has neither adapter_model.safetensors nor adapter_model.bin")
    })?;
    let own = chosen.names();
    let files = files::adapter(&folder.found(), &own, asked)?;
    let read = chosen.read(folder, objects).await?;
    let extra: Vec<String> =
        files.iter().filter(|f| f.fate == Fate::Merged && !own.contains(&f.name)).map(|f| f.name.clone()).collect();
    let extra = chosen::read_files(folder, objects, extra).await?;
    let sidecars = folder.sidecars(objects, travelling(&files)).await?;
    let mut skipped: Vec<String> = Vec::new();
    let mut tensors = Vec::new();
    for file in read {
        skipped.extend(file.skipped);
        tensors.extend(file.tensors);
    }
    let mut extras = Vec::with_capacity(extra.len());
    for file in extra {
        skipped.extend(file.skipped.iter().map(|key| format!("{key} ({})", file.name)));
        extras.push(ExtraFile { name: file.name, tensors: file.tensors });
    }
    Ok(AdapterInventory { url: folder.path().to_owned(), config, tensors, extra: extras, sidecars, skipped, files })
}

/// Reads the folder whose tokenizer is asked for.
async fn tokenizer(folder: &Folder, objects: &mut Objects) -> Result<TokenizerInventory> {
    let path = folder.path();
    let files = files::tokenizer(&folder.found())?;
    let names = travelling(&files);
    if !names.iter().any(|name| sidecar::is_tokenizer(name)) {
        return Err(Error::new(Kind::MissingFile, format!("{path} holds no tokenizer files")));
    }
    Ok(TokenizerInventory { sidecars: folder.sidecars(objects, names).await?, files })
}
