//! The files of the output: weights with their headers, index, configuration, sidecars.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inventory::{Inventory, ObjectId, Sidecar};
use crate::plan::build::{Built, Slot, Vocabulary};

use crate::checkpoint::files::{Fate, FileFate};
use crate::checkpoint::{header, index, sidecar};
use crate::error::{Error, Kind, Result};
use crate::json;
use crate::recipe::Placed;
use crate::spec::{MAX_PARTS, MergeSpec, Tokenizer};
use crate::tensor::DtypeExt;

pub mod levels;
pub mod manifest;

use manifest::MANIFEST;

/// What names begin with that a merge gives to its own files in the output's folder.
const RESERVED: &str = ".shardfuse";

/// A weight file of the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputFile {
    /// The file's name.
    pub name: String,
    /// Its size in bytes, header included.
    pub size: u64,
    /// The bytes of its header: 8 length bytes and JSON.
    pub header_length: u64,
    /// The `__metadata__` of its header.
    pub metadata: BTreeMap<String, String>,
    /// Its tensors, in the order of their data.
    pub tensors: Vec<Placed>,
}

impl OutputFile {
    /// The bytes of its header.
    pub fn header(&self) -> Vec<u8> {
        header::render(
            self.tensors.iter().map(|t| (t.name.as_str(), t.dtype, t.shape.as_slice(), t.length)),
            &self.metadata,
        )
    }

    /// The number of parts.
    pub fn parts(&self, part_size: u64) -> u32 {
        self.size.div_ceil(part_size) as u32
    }
}

/// A small file of the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SmallFile {
    /// A copy of an input.
    Copy(ObjectId),
    /// These bytes.
    Text(String),
}

/// Everything that is published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The weight files.
    pub files: Vec<OutputFile>,
    /// Sidecars by name.
    pub sidecars: Vec<(String, SmallFile)>,
    /// The index, where there is one.
    pub index: Option<(String, String)>,
    /// `config.json`.
    pub config: SmallFile,
}

impl Output {
    /// The names of all files but the manifest.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let weights = self.files.iter().map(|file| file.name.as_str());
        let sidecars = self.sidecars.iter().map(|(name, _)| name.as_str());
        weights.chain(sidecars).chain(self.index.iter().map(|(name, _)| name.as_str())).chain(["config.json"])
    }
}

/// Lays the tensors out and writes what goes beside them.
pub fn lay_out(spec: &MergeSpec, inventory: &Inventory, built: &mut Built) -> Result<Output> {
    let groups = match spec.max_shard_size {
        Some(limit) => recut(&built.slots, limit),
        None => own_layout(inventory, &built.slots),
    };
    let single = groups.len() == 1 && (spec.max_shard_size.is_some() || !inventory.base.indexed);
    let total = groups.len();
    let mut files = Vec::with_capacity(total);
    for (i, (name, slots)) in groups.into_iter().enumerate() {
        let name = match name {
            _ if single => "model.safetensors".to_owned(),
            Some(name) if name.ends_with(".safetensors") => name,
            _ => format!("model-{:05}-of-{total:05}.safetensors", i + 1),
        };
        files.push(file(name, &slots, &inventory.base.shards[0].metadata)?);
    }
    if let Some(big) = files.iter().find(|f| f.size.div_ceil(spec.part_size) > MAX_PARTS) {
        return Err(Error::new(
            Kind::Usage,
            format!(
                "{} of {} bytes would take {} parts, at most {MAX_PARTS} are allowed",
                big.name,
                big.size,
                big.size.div_ceil(spec.part_size)
            ),
        )
        .hint("use a larger --part-size, or a smaller --max-shard-size"));
    }
    let index = (!single).then(|| render_index(&files));
    let output =
        Output { sidecars: sidecars(spec, inventory, built), index, config: config(spec, inventory, built), files };
    check_names(&output)?;
    Ok(output)
}

/// Every file has a name of its own, and none has one that a merge needs for itself.
fn check_names(output: &Output) -> Result<()> {
    let weights = output.files.iter().map(|f| f.name.as_str());
    let others = output.sidecars.iter().map(|(name, _)| name.as_str());
    let index = output.index.iter().map(|(name, _)| name.as_str());
    let mut seen = HashSet::from(["config.json", MANIFEST]);
    for name in weights.chain(others).chain(index) {
        if name.split('/').any(|part| part.starts_with(RESERVED)) {
            return Err(Error::new(
                Kind::UnsafePath,
                format!("the base holds a file named {name}; names that begin with {RESERVED} are reserved"),
            )
            .hint("rename the file in the base"));
        }
        if !seen.insert(name) {
            return Err(Error::new(Kind::Conflict, format!("two files of the output would have the name {name}"))
                .hint("rename the base's files; --max-shard-size gives the weight files names of their own"));
        }
    }
    Ok(())
}

fn file(name: String, slots: &[&Slot], metadata: &BTreeMap<String, String>) -> Result<OutputFile> {
    let mut metadata = metadata.clone();
    metadata.insert("format".into(), "pt".into());
    let mut tensors: Vec<Placed> = Vec::with_capacity(slots.len());
    for slot in slots {
        let length = header::tensor_bytes(slot.dtype, &slot.shape).ok_or_else(|| {
            Error::new(
                Kind::Unsupported,
                format!("tensor {} ({} {:?}) does not fill whole bytes", slot.name, slot.dtype.name(), slot.shape),
            )
        })?;
        tensors.push(Placed {
            name: slot.name.clone(),
            dtype: slot.dtype,
            shape: slot.shape.clone(),
            offset: 0,
            length,
            recipe: slot.recipe(),
        });
    }
    let mut file = OutputFile { name, size: 0, header_length: 0, metadata, tensors };
    file.header_length = file.header().len() as u64;
    let mut at = file.header_length;
    for t in &mut file.tensors {
        t.offset = at;
        at += t.length;
    }
    file.size = at;
    Ok(file)
}

type Groups<'a> = Vec<(Option<String>, Vec<&'a Slot>)>;

fn own_layout<'a>(inventory: &Inventory, slots: &'a [Slot]) -> Groups<'a> {
    let mut groups: Groups<'a> = inventory.base.shards.iter().map(|s| (Some(s.name.clone()), Vec::new())).collect();
    let last = groups.len() - 1;
    for slot in slots {
        groups[slot.shard.unwrap_or(last)].1.push(slot);
    }
    groups
}

/// Cuts as transformers does: in order, a new file where the next tensor would exceed the limit.
fn recut(slots: &[Slot], limit: u64) -> Groups<'_> {
    let mut groups: Groups<'_> = vec![(None, Vec::new())];
    let mut size = 0u64;
    for slot in slots {
        let bytes = header::tensor_bytes(slot.dtype, &slot.shape).unwrap_or(0);
        if size > 0 && size + bytes > limit {
            groups.push((None, Vec::new()));
            size = 0;
        }
        size += bytes;
        if let Some(group) = groups.last_mut() {
            group.1.push(slot);
        }
    }
    groups
}

fn render_index(files: &[OutputFile]) -> (String, String) {
    let total = files.iter().flat_map(|f| &f.tensors).map(|t| t.length).sum();
    let map: BTreeMap<&str, &str> =
        files.iter().flat_map(|f| f.tensors.iter().map(|t| (t.name.as_str(), f.name.as_str()))).collect();
    let bytes = index::render(total, &map);
    ("model.safetensors.index.json".into(), String::from_utf8_lossy(&bytes).into_owned())
}

/// The base's config.json, with `vocab_size`, dtype and tying as the tensors have them; untouched where nothing changed.
fn config(spec: &MergeSpec, inventory: &Inventory, built: &Built) -> SmallFile {
    let base = &inventory.base;
    let mut value = base.config.clone();
    let before = value.clone();
    if let Some(Vocabulary { rows, only }) = built.vocabulary {
        levels::set(&mut value, "vocab_size", &rows.into(), only.map(Value::from).as_ref());
    }
    if built.untied {
        let key = "tie_word_embeddings";
        if !levels::set_held(&mut value, key, &false.into(), None) {
            value[key] = false.into();
        }
    }
    let main = built.main_dtype.map(|d| spec.output_dtype(d, built.main_dtype));
    if let Some(name) = main.and_then(DtypeExt::config_name) {
        let key = ["dtype", "torch_dtype"].into_iter().find(|k| value.get(k).is_some_and(Value::is_string));
        match key {
            Some(key) => value[key] = name.into(),
            None if spec.dtype.dtype().is_some() => value["torch_dtype"] = name.into(),
            None => {}
        }
    }
    if value == before {
        return SmallFile::Text(String::from_utf8_lossy(json::without_mark(&base.config_bytes)).into_owned());
    }
    let mut text = json::render(&value);
    text.push('\n');
    SmallFile::Text(text)
}

fn sidecars(spec: &MergeSpec, inventory: &Inventory, built: &mut Built) -> Vec<(String, SmallFile)> {
    let mut files: BTreeMap<&str, ObjectId> =
        inventory.base.sidecars.iter().map(|s| (s.name.as_str(), s.object)).collect();
    let carries = |list: &&Vec<Sidecar>| list.iter().any(|s| sidecar::is_tokenizer(&s.name));
    let (from, whose) = match &spec.tokenizer {
        Tokenizer::Base => (None, String::new()),
        Tokenizer::Folder(path) => (inventory.tokenizer.as_ref().map(|t| &t.sidecars), path.clone()),
        Tokenizer::Auto => {
            let mut adapters = built.in_force.iter().rev().map(|i| &inventory.adapters[*i]);
            match adapters.find(|a| carries(&&a.sidecars)) {
                Some(adapter) => (Some(&adapter.sidecars), adapter.url.clone()),
                None => (None, String::new()),
            }
        }
    };
    if let Some(list) = from {
        if list.iter().any(|s| sidecar::is_vocabulary(&s.name)) {
            files.retain(|name, _| !sidecar::is_vocabulary(name));
        }
        for s in list.iter().filter(|s| sidecar::is_tokenizer(&s.name)) {
            files.insert(&s.name, s.object);
        }
        built.report.notes.push(format!("tokenizer files come from {whose}"));
    } else if built.vocabulary.is_some() {
        built
            .report
            .warnings
            .push("the vocabulary grows, and no adapter brings a tokenizer: the output keeps the base's".into());
    }
    let taken: HashSet<ObjectId> = files.values().copied().collect();
    let report = &mut built.report;
    report.base_files = settle(&inventory.base.files, &inventory.base.sidecars, &taken, &whose);
    for adapter in &mut report.adapters {
        let carried = inventory.adapters.iter().find(|a| a.url == adapter.path).map(|a| a.sidecars.as_slice());
        adapter.files = settle(&adapter.files, carried.unwrap_or_default(), &taken, &whose);
    }
    if let Some(tokenizer) = &inventory.tokenizer {
        report.tokenizer_files = settle(&tokenizer.files, &tokenizer.sidecars, &taken, &whose);
    }
    files.into_iter().map(|(name, object)| (name.to_owned(), SmallFile::Copy(object))).collect()
}

/// The fates of a folder's files, once it is known which of those that could travel do.
fn settle(files: &[FileFate], carried: &[Sidecar], taken: &HashSet<ObjectId>, whose: &str) -> Vec<FileFate> {
    let stays: HashSet<&str> = carried.iter().filter(|s| !taken.contains(&s.object)).map(|s| s.name.as_str()).collect();
    let why = match whose {
        "" => "the tokenizer is the base's".to_owned(),
        whose => format!("the tokenizer comes from {whose}"),
    };
    let settled = |file: &FileFate| match file.fate == Fate::Travels && stays.contains(file.name.as_str()) {
        true => FileFate { fate: Fate::Stays, why: why.clone(), ..file.clone() },
        false => file.clone(),
    };
    files.iter().map(settled).collect()
}
