//! From an adapter's tensors to edits of base tensors.
//!
//! Tensors that are present are authoritative; the configuration gives scales and says what should be there. A tensor
//! that nothing consumes is an error that lists every such key: PEFT does not even warn, and users lose adapters.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::config::{AdapterConfig, Tokens};
use super::group::{Context, LoraGroup, Place};
use super::key::{Role, classify};
use super::rename::candidates;
use super::scale::Tables;
use super::suffix::suffixes;
use super::target::missing_targets;
use crate::bounded;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::{AdapterInventory, Source};

/// A low-rank pair with its scale, before it is laid onto a weight.
#[derive(Debug, Clone)]
pub struct Pair {
    /// lora_A or lora_embedding_A.
    pub a: Source,
    /// lora_B or lora_embedding_B.
    pub b: Source,
    /// Whether it is an embedding's pair.
    pub embedding: bool,
    /// The rank: A's rows.
    pub rank: u64,
    /// alpha / r or alpha / sqrt(r), without the adapter's weight.
    pub scale: f64,
    /// DoRA's magnitude.
    pub magnitude: Option<Source>,
}

impl Pair {
    /// The delta's shape `[out, in]`, if it is one of a linear layer.
    pub fn linear(&self) -> Option<[u64; 2]> {
        match (self.a.shape.as_slice(), self.b.shape.as_slice()) {
            ([_, inputs], [outputs, _]) if !self.embedding => Some([*outputs, *inputs]),
            _ => None,
        }
    }
}

/// Why a tensor is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The module was trained whole (`modules_to_save`), or its bias was.
    Trained,
    /// The base as the adapter saw it: a resized embedding saved beside a delta.
    Resized,
}

/// What is done to one base tensor.
#[derive(Debug, Clone)]
pub enum Change {
    /// The whole tensor is replaced; `twin` is a second copy that must be equal.
    Replace {
        /// The new tensor.
        source: Source,
        /// Why.
        origin: Origin,
        /// A second copy that the adapter holds.
        twin: Option<Source>,
    },
    /// Rows are replaced.
    Rows {
        /// Row numbers, in the order of the source.
        rows: Vec<u64>,
        /// [n, dim].
        source: Source,
    },
    /// A low-rank delta.
    Pair(Pair),
    /// A bias delta, times the scale.
    Bias {
        /// `[out]`.
        source: Source,
        /// The pair's scale.
        scale: f64,
    },
}

/// An edit of one base tensor.
#[derive(Debug, Clone)]
pub struct Edit {
    /// The tensor's name in the base.
    pub tensor: String,
    /// The module's path in the base.
    pub module: String,
    /// The change.
    pub change: Change,
}

/// An adapter, resolved against a base.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// The edits, replacements first, then rows, then deltas; by tensor name within each.
    pub edits: Vec<Edit>,
    /// Keys that are left out on purpose, with the reason.
    pub ignored: Vec<(String, String)>,
    /// What deserves a look.
    pub warnings: Vec<String>,
    /// Pairs of tensors that must be equal, with the reason.
    pub equals: Vec<(Source, Source, String)>,
}

/// The tensors that an edit may name: those of the base, and the output embedding of a tied model.
pub trait Names {
    /// Whether the base has this tensor.
    fn has(&self, tensor: &str) -> bool;
    /// Every tensor's name, sorted.
    fn all(&self) -> Vec<&str>;
    /// The output embedding that shares its tensor with the input embedding.
    fn tied_head(&self) -> Option<&str>;
}

/// Resolves one adapter.
pub fn resolve(adapter: &AdapterInventory, names: &dyn Names, effort: &mut Effort) -> Result<Resolved> {
    refuse_empty(&adapter.tensors)?;
    super::names::refuse_several(&adapter.tensors)?;
    let mut groups: BTreeMap<String, LoraGroup> = BTreeMap::new();
    let mut replaced: BTreeMap<String, Replaced> = BTreeMap::new();
    let mut out = Resolved::default();
    let mut unmatched = Vec::new();
    let mut rows = Vec::new();
    for tensor in &adapter.tensors {
        let key = classify(&tensor.name);
        let slot = match key.role {
            Role::Ignored(why) => {
                out.ignored.push((tensor.name.clone(), why.to_owned()));
                continue;
            }
            Role::Foreign(kind) => {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("tensor {} belongs to {kind}, which is not supported yet", tensor.name),
                ));
            }
            Role::Plain(ref parameter) | Role::BaseLayer(ref parameter) | Role::Saved(ref parameter) => {
                match locate(&key.module, parameter, matches!(key.role, Role::Saved(_)), names) {
                    Some((name, module)) => {
                        let entry = replaced.entry(name).or_insert_with(|| Replaced::of(module));
                        match key.role {
                            Role::Plain(_) => &mut entry.plain,
                            Role::Saved(_) => &mut entry.saved,
                            _ => &mut entry.base_layer,
                        }
                    }
                    None => {
                        unmatched.push(tensor.name.clone());
                        continue;
                    }
                }
            }
            Role::TokenRows => {
                rows.push((key.module, tensor));
                continue;
            }
            Role::LoraA => &mut groups.entry(key.module).or_default().a,
            Role::LoraB => &mut groups.entry(key.module).or_default().b,
            Role::LoraBBias => &mut groups.entry(key.module).or_default().bias,
            Role::EmbeddingA => &mut groups.entry(key.module).or_default().embedding_a,
            Role::EmbeddingB => &mut groups.entry(key.module).or_default().embedding_b,
            Role::Magnitude => &mut groups.entry(key.module).or_default().magnitude,
        };
        if let Some(other) = slot.replace(tensor) {
            return Err(Error::new(
                Kind::Conflict,
                format!("tensors {} and {} play the same part for one module", other.name, tensor.name),
            ));
        }
    }
    let saved: HashSet<&str> = adapter.config.modules_to_save.iter().map(String::as_str).collect();
    super::extra::lay(adapter, names, &mut replaced, &mut out, &mut unmatched)?;
    for (tensor, r) in replaced {
        out.edits.push(r.edit(tensor, &saved)?);
    }
    token_rows(&adapter.config, &rows, names, &mut out, &mut unmatched)?;
    let tables = Tables::new(&adapter.config)?;
    let modules: Vec<&str> = groups.keys().map(String::as_str).collect();
    let scales = tables.scales(&modules, effort)?;
    let context = Context { config: &adapter.config, scales: &scales, names };
    let mut owners: HashMap<String, String> = HashMap::new();
    for (number, (module, group)) in groups.iter().enumerate() {
        effort.check()?;
        let Some((tensor, base_module)) =
            locate(module, "weight", false, names).or_else(|| locate(module, "in_proj_weight", false, names))
        else {
            unmatched.extend(group.tensors().map(|t| t.name.clone()));
            continue;
        };
        if let Some(other) = owners.insert(tensor.clone(), module.clone()) {
            return Err(Error::new(
                Kind::Conflict,
                format!("adapter modules {other} and {module} are both {tensor} of the base"),
            ));
        }
        let place = Place { number, module, tensor: &tensor, base_module: &base_module };
        group.edits(&place, &context, &mut out)?;
    }
    if !unmatched.is_empty() {
        return Err(refuse_unmatched(unmatched, adapter.all_tensors().count(), names));
    }
    missing_targets(&adapter.config, &groups, names, &mut out);
    Ok(out)
}

/// The base tensor `module.parameter`, under whatever name the base knows the module by; with its module path.
pub(super) fn locate(module: &str, parameter: &str, saved: bool, names: &dyn Names) -> Option<(String, String)> {
    let forms: Vec<&str> = match parameter.split_once('.') {
        // `modules_to_save.<adapter>.weight` or `modules_to_save.<child>.weight`: only the base's names can tell.
        Some((_, rest)) if saved => vec![parameter, rest],
        _ => vec![parameter],
    };
    candidates(module).into_iter().find_map(|module| {
        forms
            .iter()
            .map(|p| if module.is_empty() { (*p).to_owned() } else { format!("{module}.{p}") })
            .find(|name| names.has(name))
            .map(|name| (name, module))
    })
}

fn refuse_empty(tensors: &[Source]) -> Result<()> {
    let empty: Vec<&Source> = tensors.iter().filter(|t| t.elements() == 0).collect();
    match empty.first() {
        None if tensors.is_empty() => Err(Error::new(Kind::MissingTensor, "the adapter holds no tensors")),
        None => Ok(()),
        Some(first) => Err(Error::new(
            Kind::EmptyTensor,
            format!("{} of {} tensors are empty, the first is {} of shape {:?}", empty.len(), tensors.len(), first.name, first.shape),
        )
        .hint("DeepSpeed ZeRO-3 saves empty tensors unless they are gathered: set stage3_gather_16bit_weights_on_model_save, or save through zero_to_fp32.py")),
    }
}

fn refuse_unmatched(mut keys: Vec<String>, all: usize, names: &dyn Names) -> Error {
    keys.sort();
    // A key below `experts` of a base that stacks them is not a stray: it is a kind that is not merged yet.
    let sorted = names.all();
    let stacked = keys.iter().find_map(|k| {
        let path = k.strip_prefix("base_model.model.").unwrap_or(k);
        let experts = &path[..path.find(".experts.").map(|at| at + ".experts.".len())?];
        let first = sorted.get(sorted.partition_point(|n| *n < experts))?;
        first.starts_with(experts).then(|| (k.clone(), (*first).to_owned()))
    });
    if let Some((key, base)) = stacked {
        return Error::new(
            Kind::Unsupported,
            format!(
                "adapter tensor {key} meets experts that the base stores as {base}: merging across the two layouts is not supported yet"
            ),
        );
    }
    let example = sorted.first().map_or(String::new(), |n| format!(", such as {n}"));
    Error::new(
        Kind::UnmatchedKeys,
        format!("{} of {all} adapter tensors match no tensor of the base: {}", keys.len(), bounded::list(&keys)),
    )
    .hint(format!("is this the base that the adapter was trained on? the base holds other names{example}"))
}

/// What replaces one tensor of the base.
#[derive(Default)]
pub(super) struct Replaced<'a> {
    module: String,
    plain: Option<&'a Source>,
    saved: Option<&'a Source>,
    base_layer: Option<&'a Source>,
    /// A tensor of a file beside the adapter's own, where that one has none.
    pub(super) extra: Option<&'a Source>,
}

impl<'a> Replaced<'a> {
    /// Nothing yet replaces a tensor of this module of the base.
    pub(super) fn of(module: String) -> Self {
        Replaced { module, ..Replaced::default() }
    }

    /// The tensor that replaces it so far.
    pub(super) fn standing(&self) -> Option<&'a Source> {
        self.saved.or(self.plain).or(self.base_layer).or(self.extra)
    }

    fn edit(self, tensor: String, modules_to_save: &HashSet<&str>) -> Result<Edit> {
        // PEFT saves a module of modules_to_save under its own name, as it does an embedding that was only resized.
        let trained = suffixes(&self.module).any(|name| modules_to_save.contains(name)) || !tensor.ends_with("weight");
        let (source, origin, twin) = match (self.saved, self.plain, self.base_layer) {
            (Some(saved), twin, None) => (saved, Origin::Trained, twin),
            (None, Some(plain), None) => (plain, if trained { Origin::Trained } else { Origin::Resized }, None),
            (None, None, Some(base)) => (base, if trained { Origin::Trained } else { Origin::Resized }, None),
            (Some(one), _, Some(other)) | (None, Some(one), Some(other)) => {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("tensors {} and {} both replace {tensor}", one.name, other.name),
                ));
            }
            // Trained in place: where two sides of the model are one tensor, they stay one.
            (None, None, None) => match self.extra {
                Some(extra) => (extra, Origin::Resized, None),
                None => return Err(Error::new(Kind::Internal, format!("nothing replaces {tensor}"))),
            },
        };
        Ok(Edit {
            tensor,
            module: self.module,
            change: Change::Replace { source: source.clone(), origin, twin: twin.cloned() },
        })
    }
}

fn token_rows(
    config: &AdapterConfig,
    found: &[(String, &Source)],
    names: &dyn Names,
    out: &mut Resolved,
    unmatched: &mut Vec<String>,
) -> Result<()> {
    if found.is_empty() && config.tokens != Tokens::None {
        return Err(Error::new(
            Kind::MissingTensor,
            "adapter_config.json names trainable tokens, and the adapter holds no trainable_tokens_delta",
        ));
    }
    let mut by_layer: HashMap<&str, usize> = HashMap::new();
    if let Tokens::ByLayer(layers) = &config.tokens {
        for (number, (layer, _)) in layers.iter().enumerate() {
            by_layer.entry(layer).or_insert(number);
        }
    }
    for (module, source) in found {
        let indices = match &config.tokens {
            Tokens::None => None,
            Tokens::Input(ids) => Some(ids),
            // The head of a tied model carries the rows of the embedding under its own name.
            Tokens::ByLayer(layers) => suffixes(module)
                .filter_map(|name| by_layer.get(name))
                .min()
                .map(|number| &layers[*number])
                .or_else(|| {
                    layers
                        .first()
                        .filter(|_| layers.len() == 1 && names.tied_head() == Some(&format!("{module}.weight")))
                })
                .map(|(_, ids)| ids),
        };
        let Some(indices) = indices else {
            return Err(Error::new(
                Kind::BadConfig,
                format!("{} holds token rows, and adapter_config.json does not say which", source.name),
            ));
        };
        if source.shape.len() != 2 || source.shape[0] != indices.len() as u64 {
            return Err(Error::new(
                Kind::ShapeMismatch,
                format!(
                    "{} has shape {:?}, adapter_config.json names {} tokens",
                    source.name,
                    source.shape,
                    indices.len()
                ),
            ));
        }
        match locate(module, "weight", false, names) {
            Some((tensor, module)) => out.edits.push(Edit {
                tensor,
                module,
                change: Change::Rows { rows: indices.to_vec(), source: (*source).clone() },
            }),
            None => unmatched.push(source.name.clone()),
        }
    }
    Ok(())
}
