//! Adapters onto base: every output tensor's recipe.
//!
//! The adapters are laid onto the base in the order given. A replacement replaces what stands so far; a delta is added
//! to what stands so far. What comes out is one slot a tensor, with its recipe and final shape.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::report::{AdapterReport, Report};
use crate::adapter::conv1d::Conv1d;
use crate::adapter::orientation::Orientation;
use crate::adapter::resolve::{Change, Edit, Names, Pair, Resolved, resolve};
use crate::base::tied;
use crate::bounded;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::{AdapterInventory, Inventory, ObjectId, Source};
use crate::recipe::{Add, Delta, Dense, Fuse, Op, Operand, Recipe, Step};
use crate::spec::MergeSpec;
use crate::statistic::Statistic;
use crate::tensor::{Dtype, DtypeExt};

mod chain;
mod change;
mod share;
mod vocabulary;

pub use vocabulary::Vocabulary;

/// A name that no tensor of a safetensors file can have.
const METADATA: &str = "__metadata__";

/// Two tensors that must hold the same values; checked by reading them before any work starts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Equal {
    /// One.
    pub left: Source,
    /// The other.
    pub right: Source,
    /// Whether one is the other's transpose.
    pub transposed: bool,
    /// Why they must be equal.
    pub why: String,
}

/// One output tensor on its way.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The tensor's name.
    pub name: String,
    /// The output dtype.
    pub dtype: Dtype,
    /// The shape that stands.
    pub shape: Vec<u64>,
    /// What the steps start from.
    pub start: Source,
    /// The adapter that replaced the start.
    pub start_adapter: Option<u16>,
    /// The steps so far.
    pub steps: Vec<Step>,
    /// The file of the base that holds it; `None` for a tensor that the base does not hold.
    pub shard: Option<usize>,
    /// Adapters that changed it, for the report.
    changed_by: Vec<u16>,
}

impl Slot {
    fn touched(&self) -> bool {
        self.start_adapter.is_some() || !self.steps.is_empty()
    }

    /// The recipe that makes this slot.
    pub fn recipe(&self) -> Recipe {
        // What holds no values, such as a counter of batches, is replaced byte by byte.
        if self.steps.is_empty() && self.dtype == self.start.dtype && (!self.touched() || !self.dtype.fusable()) {
            return Recipe::Copy(self.start.clone());
        }
        Recipe::Fuse(Fuse {
            start: self.start.clone(),
            start_adapter: self.start_adapter,
            steps: self.steps.clone(),
            keep_non_finite: !self.touched(),
        })
    }
}

/// All output tensors, and what goes with them.
#[derive(Debug)]
pub struct Built {
    /// The tensors, in the base's order; new ones at the end.
    pub slots: Vec<Slot>,
    /// Measurements, in an order in which each needs only earlier ones.
    pub statistics: Vec<Statistic>,
    /// Equalities to check before work starts.
    pub equals: Vec<Equal>,
    /// The new size of the vocabulary, where it changed.
    pub vocabulary: Option<Vocabulary>,
    /// Whether the model was untied.
    pub untied: bool,
    /// The adapters that have a weight other than 0, by their place in the spec. Only they bring a tokenizer.
    pub in_force: Vec<usize>,
    /// The main float dtype of the base.
    pub main_dtype: Option<Dtype>,
    /// What a person reads.
    pub report: Report,
}

/// A run of the same adapter, merged into one use.
#[derive(Debug, Clone)]
struct Use {
    index: usize,
    weight: f64,
}

/// Lays the adapters onto the base.
pub fn build(spec: &MergeSpec, inventory: &Inventory, effort: &mut Effort) -> Result<Built> {
    refuse_quantised(&inventory.base.config)?;
    let uses = uses(spec, inventory);
    let in_order: Vec<(usize, f64)> = uses.iter().map(|u| (u.index, u.weight)).collect();
    let mut builder = Builder::new(spec, inventory)?;
    for (number, usage) in uses.iter().enumerate() {
        chain::report(&mut builder.report, number, &in_order, inventory);
        builder.apply(number as u16, usage, effort).map_err(|e| e.at(&inventory.adapters[usage.index].url))?;
    }
    let in_force = uses.iter().filter(|u| u.weight != 0.0).map(|u| u.index).collect();
    builder.finish(in_force)
}

fn refuse_quantised(config: &serde_json::Value) -> Result<()> {
    match config.get("quantization_config") {
        None | Some(serde_json::Value::Null) => Ok(()),
        Some(q) => {
            let method = q.get("quant_method").and_then(|m| m.as_str()).unwrap_or("an unnamed method");
            Err(Error::new(Kind::Unsupported, format!("the base is quantised by {method} (quantization_config in config.json): its tensors are codes, not values"))
                .hint("merge into the unquantised base and quantise the result"))
        }
    }
}

/// Consecutive uses of one adapter become one use with the sum of their weights.
fn uses(spec: &MergeSpec, inventory: &Inventory) -> Vec<Use> {
    let identity = |i: usize| {
        let a = &inventory.adapters[i];
        let objects: BTreeSet<_> = a.all_tensors().map(|t| t.object).collect();
        let place = |id: ObjectId| (&inventory.objects[id.0 as usize].url, &inventory.objects[id.0 as usize].pin);
        objects.into_iter().map(place).collect::<Vec<_>>()
    };
    let mut uses: Vec<Use> = Vec::new();
    for (index, lora) in spec.lora.iter().enumerate() {
        match uses.last_mut() {
            Some(last) if identity(last.index) == identity(index) => last.weight += lora.weight,
            _ => uses.push(Use { index, weight: lora.weight }),
        }
    }
    uses
}

struct Builder<'a> {
    spec: &'a MergeSpec,
    inventory: &'a Inventory,
    conv1d: Conv1d,
    /// How the adapter that is laid on has its weights stored.
    orientation: Orientation,
    slots: Vec<Slot>,
    by_name: HashMap<String, usize>,
    /// Input and output embedding of a model whose two sides are one tensor. The output side may have no slot.
    tied: Option<(&'static str, &'static str)>,
    /// The same names, whether tied or not.
    sides: Option<(&'static str, &'static str)>,
    tie: tied::Decision,
    untied: bool,
    statistics: Vec<Statistic>,
    equals: Vec<Equal>,
    token_rows: HashMap<String, BTreeMap<u64, u16>>,
    main_dtype: Option<Dtype>,
    report: Report,
}

/// The base's names and, in a tied model, the output embedding that has no tensor of its own.
struct BaseNames<'a> {
    by_name: &'a HashMap<String, usize>,
    head: Option<&'a str>,
}

impl Names for BaseNames<'_> {
    fn has(&self, tensor: &str) -> bool {
        self.by_name.contains_key(tensor) || self.head == Some(tensor)
    }

    fn all(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    fn tied_head(&self) -> Option<&str> {
        self.head
    }
}

impl<'a> Builder<'a> {
    fn new(spec: &'a MergeSpec, inventory: &'a Inventory) -> Result<Self> {
        let base = &inventory.base;
        let main_dtype = main_dtype(base.shards.iter().flat_map(|s| &s.tensors));
        let mut slots = Vec::new();
        let mut by_name = HashMap::new();
        for (shard, file) in base.shards.iter().enumerate() {
            for source in &file.tensors {
                if source.name == METADATA {
                    return Err(Error::new(
                        Kind::Unsupported,
                        format!(
                            "{} holds a tensor named {METADATA}, which a safetensors file has another use for",
                            file.name
                        ),
                    )
                    .hint("rename the tensor in the base"));
                }
                let dtype = spec.output_dtype(source.dtype, main_dtype);
                if dtype != source.dtype && !source.dtype.fusable() {
                    return Err(Error::new(
                        Kind::Unsupported,
                        format!(
                            "tensor {} is {}, which cannot be converted to {}",
                            source.name,
                            source.dtype.name(),
                            dtype.name()
                        ),
                    ));
                }
                by_name.insert(source.name.clone(), slots.len());
                slots.push(Slot {
                    name: source.name.clone(),
                    dtype,
                    shape: source.shape.clone(),
                    start: source.clone(),
                    start_adapter: None,
                    steps: Vec::new(),
                    shard: Some(shard),
                    changed_by: Vec::new(),
                });
            }
        }
        let sides = tied::sides(&base.config, |n| by_name.contains_key(n));
        let head = sides.is_some_and(|(_, output)| by_name.contains_key(output));
        let tie = tied::decide(base, sides, head, spec.tied)?;
        let mut report = Report::default();
        if !base.skipped.is_empty() {
            let skipped = bounded::list(&base.skipped);
            report.warn(format!("the base: entries that are no tensors were skipped: {skipped}"));
        }
        if !base.listed {
            report.note("the base's store cannot list: beside the weights only files of common names travel".into());
        }
        if tie.untied_by_request {
            report.note("input and output embedding are two tensors, as --tied false says, and tie_word_embeddings becomes false".into());
        }
        Ok(Builder {
            spec,
            inventory,
            conv1d: Conv1d::of(&base.config),
            orientation: Orientation::by_type(),
            tied: if tie.tied == Some(true) { sides } else { None },
            untied: tie.untied_by_request,
            tie,
            sides,
            slots,
            by_name,
            statistics: Vec::new(),
            equals: Vec::new(),
            token_rows: HashMap::new(),
            main_dtype,
            report,
        })
    }

    fn apply(&mut self, number: u16, usage: &Use, effort: &mut Effort) -> Result<()> {
        let adapter = &self.inventory.adapters[usage.index];
        let head = self.tied.map(|(_, output)| output);
        let resolved = resolve(adapter, &BaseNames { by_name: &self.by_name, head }, effort)?;
        let report = AdapterReport::new(&adapter.url, &adapter.config, usage.weight, &resolved);
        self.report.adapters.push(AdapterReport { files: adapter.files.clone(), ..report });
        self.warn(number, adapter, &resolved);
        if usage.weight == 0.0 {
            self.report.note(format!("adapter {} has weight 0 and changes nothing", number + 1));
            return Ok(());
        }
        self.check_weight(usage.weight, &resolved)?;
        for (left, right, why) in &resolved.equals {
            self.must_equal(left, right, false, why)?;
        }
        if resolved.edits.iter().any(|e| self.sides.is_some_and(|(i, o)| e.tensor == i || e.tensor == o)) {
            self.look_at_the_tie()?;
        }
        self.orientation = self.orientation(adapter, &resolved);
        let edits = self.share(number, resolved.edits, adapter.config.ensure_weight_tying)?;
        for edit in edits {
            self.edit(number, usage.weight, edit)?;
        }
        Ok(())
    }

    /// Types of layers decide where they are known, else shapes.
    fn orientation(&self, adapter: &AdapterInventory, resolved: &Resolved) -> Orientation {
        if !adapter.config.fan_in_fan_out || self.conv1d.knows_the_model() {
            return Orientation::by_type();
        }
        let targets = resolved.edits.iter().filter_map(|edit| {
            let (Change::Pair(pair), Some(at)) = (&edit.change, self.by_name.get(&edit.tensor)) else { return None };
            Some((edit.module.as_str(), pair.linear()?, self.slots[*at].shape.as_slice()))
        });
        Orientation::by_shapes(targets, self.slots.iter().map(|slot| (slot.name.as_str(), slot.shape.as_slice())))
    }

    fn warn(&mut self, number: u16, adapter: &AdapterInventory, resolved: &Resolved) {
        let n = number + 1;
        for warning in &resolved.warnings {
            self.report.warn(format!("adapter {n}: {warning}"));
        }
        if !adapter.config.unknown.is_empty() {
            self.report.warn(format!(
                "adapter {n}: adapter_config.json has keys that are not known: {}",
                bounded::list(&adapter.config.unknown)
            ));
        }
        if !adapter.skipped.is_empty() {
            self.report.warn(format!(
                "adapter {n}: entries that are no tensors were skipped: {}",
                bounded::list(&adapter.skipped)
            ));
        }
        for file in &adapter.extra {
            let (name, count) = (&file.name, file.tensors.len());
            self.report.note(format!("adapter {n}: {name} holds {count} tensors that replace those of the base"));
        }
    }

    /// A weight other than 1 has a meaning for low-rank deltas only.
    fn check_weight(&self, weight: f64, resolved: &Resolved) -> Result<()> {
        if weight == 1.0 || self.spec.partial_weight {
            return Ok(());
        }
        let whole = resolved.edits.iter().find_map(|e| match &e.change {
            Change::Replace { .. } => Some((&e.tensor, "is replaced")),
            Change::Rows { .. } => Some((&e.tensor, "has rows replaced")),
            Change::Pair(Pair { magnitude: Some(_), .. }) => Some((&e.tensor, "is rescaled by DoRA")),
            _ => None,
        });
        match whole {
            Some((tensor, how)) => Err(Error::new(
                Kind::Conflict,
                format!("the weight is {weight}, and {tensor} {how}, which takes no weight"),
            )
            .hint("--partial-weight applies the weight to the low-rank deltas only")),
            None => Ok(()),
        }
    }

    fn edit(&mut self, number: u16, weight: f64, edit: Edit) -> Result<()> {
        let at = *self
            .by_name
            .get(&edit.tensor)
            .ok_or_else(|| Error::new(Kind::Internal, format!("no slot for {}", edit.tensor)))?;
        let slot = &self.slots[at];
        let whole = matches!(&edit.change, Change::Replace { source, .. } if source.dtype == slot.dtype && !slot.dtype.floating());
        if !whole && (!slot.start.dtype.fusable() || !slot.dtype.fusable()) {
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "the adapter changes {}, whose dtype {} holds codes or is not supported, expected F32, F16 or BF16",
                    slot.name,
                    slot.start.dtype.name()
                ),
            ));
        }
        if slot.shape.contains(&0) {
            return Err(Error::new(
                Kind::EmptyTensor,
                format!("the adapter changes {}, which is empty in the base (shape {:?})", slot.name, slot.shape),
            ));
        }
        match edit.change {
            Change::Replace { source, twin, .. } => self.replace(at, number, source, twin)?,
            Change::Rows { rows, source } => self.set_rows(at, number, rows, source)?,
            Change::Bias { source, scale } => {
                if source.shape != self.slots[at].shape {
                    return Err(change::mismatch(&source, &self.slots[at]));
                }
                let scale = change::scale_of(&edit.module, scale, weight)?;
                let op = Op::Add(Add(Delta::Dense(Dense { tensor: Operand::matrix(source), scale })));
                self.slots[at].steps.push(Step { adapter: number, op });
            }
            Change::Pair(pair) => self.pair(at, number, weight, &edit.module, pair)?,
        }
        self.slots[at].changed_by.push(number);
        Ok(())
    }

    fn finish(mut self, in_force: Vec<usize>) -> Result<Built> {
        // A tied model whose file holds both sides: the output side follows the input side.
        if let Some((input, output)) = self.tied
            && let Some(&at) = self.by_name.get(output)
        {
            let from = self.slots[self.by_name[input]].clone();
            if from.touched() {
                let shard = self.slots[at].shard;
                self.slots[at] = Slot { name: output.to_owned(), shard, ..from };
            }
        }
        let vocabulary = self.vocabulary()?;
        let changed = self.slots.iter().filter(|s| s.touched()).count();
        self.report.tensors_changed = changed as u64;
        self.report.tensors_copied = (self.slots.len() - changed) as u64;
        Ok(Built {
            slots: self.slots,
            statistics: self.statistics,
            equals: self.equals,
            vocabulary,
            untied: self.untied,
            in_force,
            main_dtype: self.main_dtype,
            report: self.report,
        })
    }
}

/// The float dtype that most of the base's bytes have.
fn main_dtype<'a>(tensors: impl Iterator<Item = &'a Source>) -> Option<Dtype> {
    let mut bytes: BTreeMap<String, (u64, Dtype)> = BTreeMap::new();
    for t in tensors.filter(|t| t.dtype.floating()) {
        bytes.entry(t.dtype.name()).or_insert((0, t.dtype)).0 += t.bytes();
    }
    bytes.into_values().max_by_key(|(n, _)| *n).map(|(_, d)| d)
}
