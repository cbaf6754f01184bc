//! From an adapter's tensors to edits of base tensors.
//!
//! Tensors that are present are authoritative; the configuration gives scales and says what should be there. A tensor
//! that nothing consumes is an error that lists every such key: PEFT does not even warn, and users lose adapters.

use std::collections::{BTreeMap, HashMap};

use super::config::{AdapterConfig, Modules, Tokens};
use super::key::{Role, classify};
use super::pattern::{Patterns, suffix_matches};
use super::rename::candidates;
use crate::dtype::DtypeExt;
use crate::error::{Error, Kind, Result};
use crate::plan::inventory::{AdapterInventory, Source};

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
}

/// The tensors that an edit may name: those of the base, and the output embedding of a tied model.
pub trait Names {
    /// Whether the base has this tensor.
    fn has(&self, tensor: &str) -> bool;
    /// Every tensor's name.
    fn all(&self) -> Vec<&str>;
    /// The output embedding that shares its tensor with the input embedding.
    fn tied_head(&self) -> Option<&str>;
}

/// Resolves one adapter.
pub fn resolve(adapter: &AdapterInventory, names: &dyn Names) -> Result<Resolved> {
    refuse_empty(&adapter.tensors)?;
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
                        let entry = replaced.entry(name).or_insert_with(|| Replaced { module, ..Replaced::default() });
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
    for (tensor, r) in replaced {
        out.edits.push(r.edit(tensor, &adapter.config)?);
    }
    token_rows(&adapter.config, &rows, names, &mut out, &mut unmatched)?;
    let scales = Scales::new(&adapter.config)?;
    let mut owners: HashMap<String, String> = HashMap::new();
    for (module, group) in &groups {
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
        group.edits(module, &tensor, &base_module, &adapter.config, &scales, names, &mut out)?;
    }
    if !unmatched.is_empty() {
        return Err(refuse_unmatched(unmatched, adapter.tensors.len(), names));
    }
    missing_targets(&adapter.config, &groups, names, &mut out);
    Ok(out)
}

/// The base tensor `module.parameter`, under whatever name the base knows the module by; with its module path.
fn locate(module: &str, parameter: &str, saved: bool, names: &dyn Names) -> Option<(String, String)> {
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
    let stacked = keys.iter().find_map(|k| {
        let path = k.strip_prefix("base_model.model.").unwrap_or(k);
        let experts = &path[..path.find(".experts.").map(|at| at + ".experts.".len())?];
        let base: Vec<&str> = names.all().into_iter().filter(|n| n.starts_with(experts)).collect();
        (!base.is_empty()).then(|| (k.clone(), base[0].to_owned()))
    });
    if let Some((key, base)) = stacked {
        return Error::new(
            Kind::Unsupported,
            format!(
                "adapter tensor {key} meets experts that the base stores as {base}: merging across the two layouts is not supported yet"
            ),
        );
    }
    let example = names.all().first().map_or(String::new(), |n| format!(", such as {n}"));
    Error::new(
        Kind::UnmatchedKeys,
        format!("{} of {all} adapter tensors match no tensor of the base: {}", keys.len(), keys.join(", ")),
    )
    .hint(format!("is this the base that the adapter was trained on? the base holds other names{example}"))
}

#[derive(Default)]
struct Replaced<'a> {
    module: String,
    plain: Option<&'a Source>,
    saved: Option<&'a Source>,
    base_layer: Option<&'a Source>,
}

impl Replaced<'_> {
    fn edit(self, tensor: String, config: &AdapterConfig) -> Result<Edit> {
        // PEFT saves a module of modules_to_save under its own name, as it does an embedding that was only resized.
        let saved = config.modules_to_save.iter().any(|name| suffix_matches(name, &self.module));
        let trained = saved || !tensor.ends_with("weight");
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
            (None, None, None) => return Err(Error::new(Kind::Internal, format!("nothing replaces {tensor}"))),
        };
        Ok(Edit {
            tensor,
            module: self.module,
            change: Change::Replace { source: source.clone(), origin, twin: twin.cloned() },
        })
    }
}

#[derive(Default)]
struct LoraGroup<'a> {
    a: Option<&'a Source>,
    b: Option<&'a Source>,
    bias: Option<&'a Source>,
    embedding_a: Option<&'a Source>,
    embedding_b: Option<&'a Source>,
    magnitude: Option<&'a Source>,
}

impl LoraGroup<'_> {
    fn tensors(&self) -> impl Iterator<Item = &Source> {
        [self.a, self.b, self.bias, self.embedding_a, self.embedding_b, self.magnitude].into_iter().flatten()
    }

    #[allow(clippy::too_many_arguments, reason = "one call site; a struct would only rename the list")]
    fn edits(
        &self,
        module: &str,
        tensor: &str,
        base_module: &str,
        config: &AdapterConfig,
        scales: &Scales,
        names: &dyn Names,
        out: &mut Resolved,
    ) -> Result<()> {
        let (a, b, embedding) = self.pair(module)?;
        for t in self.tensors() {
            if !t.dtype.fusable() {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("adapter tensor {} is {}, expected F32, F16 or BF16", t.name, t.dtype.name()),
                ));
            }
        }
        if a.shape.len() < 2 || b.shape.len() < 2 {
            return Err(Error::new(
                Kind::ShapeMismatch,
                format!("{} has shape {:?} and {} has shape {:?}, expected matrices", a.name, a.shape, b.name, b.shape),
            ));
        }
        if a.shape.len() > 2 && a.shape[0] != b.shape[1] && a.shape[0].is_multiple_of(b.shape[1]) {
            let (a, b) = (format!("{} of shape {:?}", a.name, a.shape), format!("{} of shape {:?}", b.name, b.shape));
            return Err(Error::new(
                Kind::Unsupported,
                format!("{a} and {b}: a convolution with groups is not supported"),
            ));
        }
        if a.shape[0] != b.shape[1] {
            return Err(Error::new(
                Kind::RankMismatch,
                format!(
                    "{} has rank {} (shape {:?}), {} has rank {} (shape {:?})",
                    a.name, a.shape[0], a.shape, b.name, b.shape[1], b.shape
                ),
            ));
        }
        let (rank, scale) = scales.of(module, a, out)?;
        let edit = |tensor: &str, change| Edit { tensor: tensor.to_owned(), module: base_module.to_owned(), change };
        match (config.use_dora, self.magnitude) {
            (true, None) => {
                return Err(Error::new(
                    Kind::MissingTensor,
                    format!("use_dora is true, and {module} has no lora_magnitude_vector"),
                )
                .hint("the adapter was saved without its magnitudes; save it again with PEFT"));
            }
            (false, Some(m)) => {
                out.warnings.push(format!("{} is there although use_dora is false: merged as DoRA", m.name))
            }
            _ => {}
        }
        if let Some(bias) = self.bias {
            if embedding || self.magnitude.is_some() {
                let what = if embedding { "an embedding" } else { "DoRA" };
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("{} is a bias delta of {what}, which has none", bias.name),
                ));
            }
            let target =
                tensor.strip_suffix("weight").map(|t| format!("{t}bias")).filter(|t| names.has(t)).ok_or_else(
                    || {
                        Error::new(
                            Kind::MissingTensor,
                            format!("{} adds to a bias, and the base has no {base_module}.bias", bias.name),
                        )
                    },
                )?;
            out.edits.push(edit(&target, Change::Bias { source: bias.clone(), scale }));
        }
        let pair = Pair { a: a.clone(), b: b.clone(), embedding, rank, scale, magnitude: self.magnitude.cloned() };
        out.edits.push(edit(tensor, Change::Pair(pair)));
        Ok(())
    }

    fn pair(&self, module: &str) -> Result<(&Source, &Source, bool)> {
        match (self.a, self.b, self.embedding_a, self.embedding_b) {
            (Some(a), Some(b), None, None) => Ok((a, b, false)),
            (None, None, Some(a), Some(b)) => Ok((a, b, true)),
            (Some(_), Some(_), _, _) => {
                Err(Error::new(Kind::Conflict, format!("{module} has a linear and an embedding pair")))
            }
            _ => {
                let have: Vec<&str> = self.tensors().map(|t| t.name.as_str()).collect();
                let missing = match (self.a, self.b, self.embedding_a, self.embedding_b) {
                    (Some(_), None, ..) => "lora_B",
                    (None, Some(_), ..) => "lora_A",
                    (.., Some(_), None) => "lora_embedding_B",
                    (.., None, Some(_)) => "lora_embedding_A",
                    _ => "lora_A and lora_B",
                };
                Err(Error::new(Kind::IncompletePair, format!("{module} has {} and no {missing}", have.join(", "))))
            }
        }
    }
}

/// Rank and alpha by module.
struct Scales<'a> {
    config: &'a AdapterConfig,
    ranks: Patterns,
    alphas: Patterns,
}

impl<'a> Scales<'a> {
    fn new(config: &'a AdapterConfig) -> Result<Self> {
        Ok(Scales {
            config,
            ranks: Patterns::compile("rank_pattern", &config.rank_pattern)?,
            alphas: Patterns::compile("alpha_pattern", &config.alpha_pattern)?,
        })
    }

    /// The module's rank (A's rows, which the configuration must agree with) and scale.
    fn of(&self, module: &str, a: &Source, out: &mut Resolved) -> Result<(u64, f64)> {
        let held = a.shape[0];
        let ranks = self.ranks.matches(module);
        let alphas = self.alphas.matches(module);
        let said = ranks.first().map_or(self.config.r as f64, |(_, r)| *r);
        // PEFT sorts the keys when it saves, so where several match, the order on disk need not be the trainer's; the
        // tensor's own rank is the truth.
        let agrees = said == held as f64 || (ranks.len() > 1 && ranks.iter().any(|(_, r)| *r == held as f64));
        if !agrees {
            let by = ranks.first().map_or("r".to_owned(), |(key, _)| format!("rank_pattern {key:?}"));
            return Err(Error::new(
                Kind::RankMismatch,
                format!("{} has rank {held} (shape {:?}), adapter_config.json says {said} by {by}", a.name, a.shape),
            ));
        }
        for (table, matches) in [("rank_pattern", &ranks), ("alpha_pattern", &alphas)] {
            if matches.len() > 1 && matches.iter().any(|m| m.1 != matches[0].1) {
                let keys: Vec<String> = matches.iter().map(|(k, v)| format!("{k:?} = {v}")).collect();
                out.warnings.push(format!("{table}: several patterns match {module} ({}); the first one counts, and saving may have reordered them", keys.join(", ")));
            }
        }
        let alpha = alphas.first().map_or(self.config.lora_alpha, |(_, v)| *v);
        let rank = held as f64;
        Ok((held, if self.config.use_rslora { alpha / rank.sqrt() } else { alpha / rank }))
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
    for (module, source) in found {
        let indices = match &config.tokens {
            Tokens::None => None,
            Tokens::Input(ids) => Some(ids),
            // The head of a tied model carries the rows of the embedding under its own name.
            Tokens::ByLayer(layers) => layers
                .iter()
                .find(|(layer, _)| suffix_matches(layer, module))
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
                change: Change::Rows { rows: indices.clone(), source: (*source).clone() },
            }),
            None => unmatched.push(source.name.clone()),
        }
    }
    Ok(())
}

/// A target that the configuration names, of which the base has modules and the adapter nothing at all.
fn missing_targets(
    config: &AdapterConfig,
    groups: &BTreeMap<String, LoraGroup<'_>>,
    names: &dyn Names,
    out: &mut Resolved,
) {
    let Modules::List(list) = &config.target_modules else { return };
    for target in list {
        let in_base =
            || names.all().iter().filter_map(|n| n.strip_suffix(".weight")).any(|m| suffix_matches(target, m));
        if !groups.keys().any(|m| suffix_matches(target, m)) && in_base() && config.tokens == Tokens::None {
            out.warnings
                .push(format!("target_modules names {target}, the base has it, and the adapter holds nothing for it"));
        }
    }
}
