//! The files of the output: weights, index, configuration, sidecars.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::checkpoint::index;
use crate::error::{Error, Kind, Result};
use crate::inventory::Inventory;
use crate::recipe::{Placed, Portion, Recipe};
use crate::spec::{MAX_PARTS, MergeSpec};
use crate::units::bytes;

pub mod card;
mod config;
mod contents;
mod cut;
pub mod encode;
mod file;
pub mod format;
mod layout;
pub mod manifest;
mod parts;
pub mod segment;
mod sidecars;
pub mod unchanged;

pub use contents::{Architecture, Contents, Recipes, SmallFile, Tensor};
pub use file::{Cut, Making, OutputFile};
pub use parts::Parts;
pub use sidecars::Travel;

use format::Format;
use layout::Group;
use manifest::MANIFEST;

/// What names begin with that a merge gives to its own files in the output's folder.
const RESERVED: &str = ".shardfuse";

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
///
/// # Errors
/// If a file would be one that nobody can store or load.
pub fn lay_out(spec: &MergeSpec, inventory: &Inventory, mut contents: Contents) -> Result<(Output, Travel)> {
    let (base, tensors) = (&inventory.base, std::mem::take(&mut contents.tensors));
    let groups = match spec.max_shard_size {
        Some(limit) => layout::recut(tensors, limit)?,
        None => layout::own(base, tensors),
    };
    let (total, format) = (groups.len(), Format::of(&base.shards[0].metadata));
    let single = total == 1 && (spec.max_shard_size.is_some() || !base.indexed);
    let mut files = Vec::with_capacity(total);
    for (number, Group { own, tensors }) in groups.into_iter().enumerate() {
        let name = Format::file_name(own.map(|shard| shard.name.as_str()), number, total, single);
        let after = own.and_then(|shard| format.begins(shard));
        let making = Making { after, part_size: spec.part_size, grain: inventory.grain };
        files.push(OutputFile::new(name, format.clone(), tensors.into_iter().flat_map(unplaced).collect(), making)?);
    }
    check_parts(&files)?;
    let index = (!single).then(|| render_index(&files));
    let (sidecars, travel) = sidecars::sidecars(spec, inventory, &contents);
    let output = Output { sidecars, index, config: config::config(spec, base, &contents), files };
    check_names(&output)?;
    Ok((output, travel))
}

/// A tensor that has no place in a file yet.
fn unplaced(Tensor { name, dtype, dims, recipes, .. }: Tensor) -> Vec<Placed> {
    let placed = |name, shape, recipe, portion| Placed { name, dtype, shape, offset: 0, length: 0, recipe, portion };
    match recipes {
        Recipes::Whole(recipe) => vec![placed(name, dims, recipe, None)],
        Recipes::Portions(recipes) => {
            let mut first = 0;
            let portion = |recipe: Recipe| {
                let (shape, portion) = (recipe.dims().to_vec(), Portion { of: dims.clone(), first });
                first += rows_of(&shape);
                placed(name.clone(), shape, recipe, Some(portion))
            };
            recipes.into_iter().map(portion).collect()
        }
    }
}

/// The rows of a shape whose columns are the last dimension; a vector has one column.
fn rows_of(shape: &[u64]) -> u64 {
    match shape {
        [rows] => *rows,
        _ => shape.iter().rev().skip(1).product(),
    }
}

/// No file has more parts than a store takes.
fn check_parts(files: &[OutputFile]) -> Result<()> {
    let Some(big) = files.iter().find(|f| u64::from(f.cut.parts.count()) > MAX_PARTS) else { return Ok(()) };
    let (name, size, parts) = (&big.name, big.size, big.cut.parts.count());
    let text = format!("{name} of {} would take {parts} parts, at most {MAX_PARTS} are allowed", bytes(size));
    Err(Error::new(Kind::Usage, text).hint("use a larger --part-size, or a smaller --max-shard-size"))
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

/// The index: which file holds which tensor.
fn render_index(files: &[OutputFile]) -> (String, String) {
    let total = files.iter().flat_map(|f| &f.tensors).map(|t| t.length).sum();
    let map: BTreeMap<&str, &str> =
        files.iter().flat_map(|f| f.tensors.iter().map(|t| (t.name.as_str(), f.name.as_str()))).collect();
    let bytes = index::render(total, &map);
    (Format::index_name().into(), String::from_utf8_lossy(&bytes).into_owned())
}
