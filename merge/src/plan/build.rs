//! Adapters onto base: every output tensor's recipe.
//!
//! The adapters are laid onto the base in the order given. A replacement replaces what stands so far; a delta is added
//! to what stands so far. What comes out is one slot a tensor, with its recipe and final shape.

use std::collections::{BTreeMap, HashMap};

use super::inventory::{Inventory, Source};
use super::recipe::{DoraNorm, Factor, Fuse, LowRank, Measure, MeasureId, Norm, Op, Recipe, Step, matrix};
use super::report::{AdapterReport, Report};
use super::spec::MergeSpec;
use super::tie;
use crate::adapter::conv1d::Conv1d;
use crate::adapter::resolve::{Change, Edit, Names, Origin, Pair, Resolved, resolve};
use crate::dtype::{Dtype, DtypeExt};
use crate::error::{Error, Kind, Result};

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
    pub measures: Vec<Measure>,
    /// Equalities to check before work starts.
    pub equals: Vec<Equal>,
    /// The new vocabulary size, where it changed.
    pub vocab_size: Option<u64>,
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
pub fn build(spec: &MergeSpec, inventory: &Inventory) -> Result<Built> {
    refuse_quantised(&inventory.base.config)?;
    let uses = uses(spec, inventory);
    let mut builder = Builder::new(spec, inventory)?;
    for (number, usage) in uses.iter().enumerate() {
        builder.apply(number as u16, usage).map_err(|e| e.at(&inventory.adapters[usage.index].url))?;
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
        a.tensors.first().map(|t| {
            let o = &inventory.objects[t.object.0 as usize];
            (o.url.clone(), o.pin.clone())
        })
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
    slots: Vec<Slot>,
    by_name: HashMap<String, usize>,
    /// Input and output embedding of a model whose two sides are one tensor. The output side may have no slot.
    tied: Option<(&'static str, &'static str)>,
    /// The same names, whether tied or not.
    sides: Option<(&'static str, &'static str)>,
    tie_unknown: bool,
    untied: bool,
    measures: Vec<Measure>,
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
        let sides = tie::sides(&base.config, |n| by_name.contains_key(n));
        let tied = tie::is_tied(&base.config).or(spec.tied);
        Ok(Builder {
            spec,
            inventory,
            conv1d: Conv1d::of(&base.config),
            tied: if tied == Some(true) { sides } else { None },
            tie_unknown: tied.is_none(),
            sides,
            slots,
            by_name,
            untied: false,
            measures: Vec::new(),
            equals: Vec::new(),
            token_rows: HashMap::new(),
            main_dtype,
            report: Report::default(),
        })
    }

    fn apply(&mut self, number: u16, usage: &Use) -> Result<()> {
        let adapter = &self.inventory.adapters[usage.index];
        let head = self.tied.map(|(_, output)| output);
        let resolved = resolve(adapter, &BaseNames { by_name: &self.by_name, head })?;
        self.report.adapters.push(AdapterReport::new(&adapter.url, &adapter.config, usage.weight, &resolved));
        self.warn(number, adapter, &resolved);
        if usage.weight == 0.0 {
            self.report.note(format!("adapter {} has weight 0 and changes nothing", number + 1));
            return Ok(());
        }
        self.check_weight(usage.weight, &resolved)?;
        if self.tie_unknown
            && resolved.edits.iter().any(|e| self.sides.is_some_and(|(i, o)| e.tensor == i || e.tensor == o))
        {
            return Err(Error::new(Kind::BadConfig, "the adapter changes an embedding, and neither config.json nor the model type tells whether input and output embedding are one tensor")
                .hint("say so with --tied true or --tied false"));
        }
        let edits = self.share(number, resolved.edits, adapter.config.ensure_weight_tying)?;
        for edit in edits {
            self.edit(number, usage.weight, edit)?;
        }
        Ok(())
    }

    fn warn(&mut self, number: u16, adapter: &super::inventory::AdapterInventory, resolved: &Resolved) {
        let n = number + 1;
        for warning in &resolved.warnings {
            self.report.warn(format!("adapter {n}: {warning}"));
        }
        if !adapter.config.unknown.is_empty() {
            self.report.warn(format!(
                "adapter {n}: adapter_config.json has keys that are not known: {}",
                adapter.config.unknown.join(", ")
            ));
        }
        if !adapter.skipped.is_empty() {
            self.report
                .warn(format!("adapter {n}: entries that are no tensors were skipped: {}", adapter.skipped.join(", ")));
        }
        let Some(named) = &adapter.config.base_model else { return };
        let last = |s: &str| s.trim_end_matches('/').rsplit('/').next().unwrap_or(s).to_lowercase();
        let earlier =
            self.inventory.adapters.iter().position(|a| last(&a.url) == last(named) && !std::ptr::eq(a, adapter));
        if let Some(earlier) = earlier {
            self.report.note(format!("adapter {n} names adapter {} as its base ({named}): a chain", earlier + 1));
        } else if last(named) != last(&self.inventory.base.url) {
            self.report.warn(format!("adapter {n} was trained on {named}, the base is {}", self.inventory.base.url));
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

    /// In a tied model, turns edits of the two sides into edits of the shared tensor, or unties the model.
    ///
    /// - The same change on both sides (saved twice by `ensure_weight_tying`, or a resized base saved on both sides)
    ///   applies once; that the two are equal is checked before work starts.
    /// - LoRA or token rows on the input embedding change the shared tensor, as PEFT's merge does.
    /// - A module trained whole on one side, or anything on the output side alone, unties the model.
    fn share(&mut self, number: u16, edits: Vec<Edit>, ensure: bool) -> Result<Vec<Edit>> {
        let Some((input, output)) = self.tied else { return Ok(edits) };
        let (outs, rest): (Vec<Edit>, Vec<Edit>) = edits.into_iter().partition(|e| e.tensor == output);
        let ins: Vec<&Edit> = rest.iter().filter(|e| e.tensor == input).collect();
        let shared = outs.iter().all(|out| {
            ins.iter().any(|inn| match (&inn.change, &out.change) {
                (Change::Replace { origin: a, .. }, Change::Replace { origin: b, .. }) => {
                    ensure || (*a == Origin::Resized && *b == Origin::Resized)
                }
                (Change::Rows { .. }, Change::Rows { .. }) => true,
                (Change::Pair(_), Change::Pair(_)) => ensure,
                _ => false,
            })
        });
        let trained_alone =
            outs.is_empty() && ins.iter().any(|e| matches!(e.change, Change::Replace { origin: Origin::Trained, .. }));
        if (outs.is_empty() && !trained_alone) || (!outs.is_empty() && shared) {
            for out in &outs {
                self.expect_equal(&ins, out)?;
            }
            if !ins.is_empty() {
                self.report.note(format!(
                    "adapter {}: the model is tied, {input} serves as {output} too and stays tied",
                    number + 1
                ));
            }
            return Ok(rest);
        }
        self.untie(number, input, output);
        Ok(rest.into_iter().chain(outs).collect())
    }

    fn expect_equal(&mut self, ins: &[&Edit], out: &Edit) -> Result<()> {
        let why = "both sides of a tied embedding carry it".to_owned();
        for inn in ins {
            let (pairs, transposed) = match (&inn.change, &out.change) {
                (Change::Replace { source: a, .. }, Change::Replace { source: b, .. }) => (vec![(a, b)], false),
                (Change::Rows { source: a, rows: ra }, Change::Rows { source: b, rows: rb }) => {
                    if ra != rb {
                        return Err(Error::new(
                            Kind::Conflict,
                            format!("{} and {} name different token rows of one tied embedding", a.name, b.name),
                        ));
                    }
                    (vec![(a, b)], false)
                }
                (Change::Pair(e), Change::Pair(h)) if e.embedding && !h.embedding => {
                    (vec![(&e.a, &h.b), (&e.b, &h.a)], true)
                }
                (Change::Pair(e), Change::Pair(h)) => (vec![(&e.a, &h.a), (&e.b, &h.b)], false),
                _ => continue,
            };
            for (left, right) in pairs {
                let shape: Vec<u64> =
                    if transposed { right.shape.iter().rev().copied().collect() } else { right.shape.clone() };
                if left.shape != shape || left.dtype != right.dtype {
                    return Err(Error::new(
                        Kind::Conflict,
                        format!(
                            "{} ({} {:?}) and {} ({} {:?}) must be equal: {why}",
                            left.name,
                            left.dtype.name(),
                            left.shape,
                            right.name,
                            right.dtype.name(),
                            right.shape
                        ),
                    ));
                }
                self.equals.push(Equal { left: left.clone(), right: right.clone(), transposed, why: why.clone() });
            }
        }
        Ok(())
    }

    fn untie(&mut self, number: u16, input: &str, output: &str) {
        let mut head = self.slots[self.by_name[input]].clone();
        head.name = output.to_owned();
        match self.by_name.get(output) {
            Some(at) => {
                head.shard = self.slots[*at].shard;
                self.slots[*at] = head;
            }
            None => {
                head.shard = None;
                self.by_name.insert(output.to_owned(), self.slots.len());
                self.slots.push(head);
            }
        }
        self.tied = None;
        self.untied = true;
        self.report.note(format!("adapter {}: changes one side of a tied embedding: {input} and {output} are both written, and tie_word_embeddings becomes false", number + 1));
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
                    return Err(mismatch(&source, &self.slots[at]));
                }
                let op = Op::AddScaled { source, scale: (scale * weight) as f32 };
                self.slots[at].steps.push(Step { adapter: number, op });
            }
            Change::Pair(pair) => self.pair(at, number, weight, &edit.module, pair)?,
        }
        self.slots[at].changed_by.push(number);
        Ok(())
    }

    fn replace(&mut self, at: usize, number: u16, source: Source, twin: Option<Source>) -> Result<()> {
        let slot = &self.slots[at];
        if !source.dtype.fusable() && source.dtype != slot.dtype {
            return Err(Error::new(
                Kind::Unsupported,
                format!("adapter tensor {} is {}, expected F32, F16 or BF16", source.name, source.dtype.name()),
            ));
        }
        let embedding =
            self.sides.is_some_and(|(i, o)| slot.name == i || slot.name == o) || slot.name.contains("embed");
        let fits = source.shape.len() == slot.shape.len() && source.shape.get(1..) == slot.shape.get(1..);
        let grows = embedding && fits && source.shape.first() >= slot.shape.first();
        if source.shape != slot.shape && !grows {
            let who = match slot.start_adapter {
                Some(a) => format!("adapter {} made it {:?}", a + 1, slot.shape),
                None => format!("the base has {:?}", slot.shape),
            };
            let error = Error::new(
                Kind::ShapeMismatch,
                format!("{} has shape {:?} and replaces {}, but {who}", source.name, source.shape, slot.name),
            );
            return Err(if embedding && fits {
                error.hint("a later adapter cannot shrink the vocabulary: merge the adapters whose tokenizer has more tokens last, or use adapters of one vocabulary")
            } else {
                error
            });
        }
        if let Some(twin) = twin {
            if twin.shape != source.shape || twin.dtype != source.dtype {
                return Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "{} ({:?}) and {} ({:?}) must be the same tensor",
                        source.name, source.shape, twin.name, twin.shape
                    ),
                ));
            }
            let why = "the adapter saved one module under two names".to_owned();
            self.equals.push(Equal { left: source.clone(), right: twin, transposed: false, why });
        }
        let slot = &mut self.slots[at];
        if let Some(earlier) = slot.changed_by.iter().rev().find(|a| **a != number) {
            self.report.conflict(format!(
                "{}: adapter {} replaces what adapter {} left; the last one wins",
                slot.name,
                number + 1,
                earlier + 1
            ));
        }
        self.report.replaced.push((slot.name.clone(), number, slot.shape.clone(), source.shape.clone()));
        slot.shape = source.shape.clone();
        slot.start = source;
        slot.start_adapter = Some(number);
        slot.steps.clear();
        self.token_rows.remove(&self.slots[at].name);
        Ok(())
    }

    fn set_rows(&mut self, at: usize, number: u16, rows: Vec<u64>, source: Source) -> Result<()> {
        let slot = &mut self.slots[at];
        let (height, width) = matrix(&slot.shape);
        if !source.dtype.fusable() {
            return Err(Error::new(
                Kind::Unsupported,
                format!("adapter tensor {} is {}, expected F32, F16 or BF16", source.name, source.dtype.name()),
            ));
        }
        if source.shape.get(1) != Some(&width) {
            return Err(mismatch(&source, slot));
        }
        if let Some(row) = rows.iter().find(|r| **r >= height) {
            return Err(Error::new(
                Kind::ShapeMismatch,
                format!("adapter_config.json names token {row}, {} has {height} rows", slot.name),
            ));
        }
        let taken = self.token_rows.entry(slot.name.clone()).or_default();
        for row in &rows {
            if let Some(other) = taken.insert(*row, number) {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("adapters {} and {} both replace row {row} of {}", other + 1, number + 1, slot.name),
                ));
            }
        }
        slot.steps.push(Step { adapter: number, op: Op::SetRows { rows, source } });
        Ok(())
    }

    fn pair(&mut self, at: usize, number: u16, weight: f64, module: &str, pair: Pair) -> Result<()> {
        let slot = &self.slots[at];
        let columns_out = pair.embedding || self.conv1d.is(module);
        check_pair(&pair, slot, columns_out)?;
        // By columns: W is [in, out], so delta = (B @ A)^T = A^T @ B^T.
        let (left, right) = if columns_out { (pair.a, pair.b) } else { (pair.b, pair.a) };
        let delta = LowRank {
            left: Factor { source: left, transposed: columns_out },
            right: Factor { source: right, transposed: columns_out },
            rank: pair.rank,
            scale: (pair.scale * weight) as f32,
        };
        let Some(magnitude) = pair.magnitude else {
            self.slots[at].steps.push(Step { adapter: number, op: Op::Add(delta) });
            return Ok(());
        };
        let (rows, cols) = matrix(&slot.shape);
        let outputs = if columns_out { cols } else { rows };
        if magnitude.elements() != outputs || !magnitude.dtype.fusable() {
            return Err(Error::new(
                Kind::ShapeMismatch,
                format!(
                    "{} is {} {:?}, {} has {outputs} outputs",
                    magnitude.name,
                    magnitude.dtype.name(),
                    magnitude.shape,
                    slot.name
                ),
            ));
        }
        let of = self.spec.dora_norm;
        let norm = if columns_out {
            let mut steps = if of == DoraNorm::Original { Vec::new() } else { slot.steps.clone() };
            let needs = steps.iter().filter_map(|s: &Step| s.op.needs()).collect();
            steps.push(Step { adapter: number, op: Op::Add(delta.clone()) });
            let id = MeasureId(self.measures.len() as u32);
            self.measures.push(Measure { tensor: slot.name.clone(), start: slot.start.clone(), steps, needs });
            Norm::Measured(id)
        } else {
            Norm::Rows
        };
        self.slots[at].steps.push(Step { adapter: number, op: Op::Dora { delta, magnitude, norm, of } });
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
        let vocab_size = self.vocabulary()?;
        let changed = self.slots.iter().filter(|s| s.touched()).count();
        self.report.tensors_changed = changed as u64;
        self.report.tensors_copied = (self.slots.len() - changed) as u64;
        Ok(Built {
            slots: self.slots,
            measures: self.measures,
            equals: self.equals,
            vocab_size,
            untied: self.untied,
            in_force,
            main_dtype: self.main_dtype,
            report: self.report,
        })
    }

    fn vocabulary(&mut self) -> Result<Option<u64>> {
        let Some((input, output)) = self.sides else { return Ok(None) };
        let slot = &self.slots[self.by_name[input]];
        let base_rows =
            self.inventory.base.shards.iter().flat_map(|s| &s.tensors).find(|t| t.name == input).map(|t| t.shape[0]);
        let rows = slot.shape[0];
        if Some(rows) == base_rows {
            let head = self.by_name.get(output).map(|at| &self.slots[*at]);
            return match head {
                Some(head) if head.start_adapter.is_some() && head.shape[0] != rows => {
                    Err(uneven(input, rows, output, head.shape[0]))
                }
                _ => Ok(None),
            };
        }
        if let Some(&at) = self.by_name.get(output)
            && self.slots[at].shape[0] != rows
        {
            return Err(uneven(input, rows, output, self.slots[at].shape[0]));
        }
        self.report.vocabulary = Some((base_rows.unwrap_or(0), rows));
        Ok(Some(rows))
    }
}

fn uneven(input: &str, rows: u64, output: &str, head: u64) -> Error {
    Error::new(Kind::ShapeMismatch, format!("the vocabulary would be uneven: {input} has {rows} rows, {output} has {head}"))
        .hint("an adapter that resizes the vocabulary must carry both embeddings: save it with modules_to_save [\"embed_tokens\", \"lm_head\"]")
}

fn mismatch(source: &Source, slot: &Slot) -> Error {
    Error::new(
        Kind::ShapeMismatch,
        format!("{} has shape {:?}, {} has shape {:?}", source.name, source.shape, slot.name, slot.shape),
    )
}

/// Holds a pair's shapes against the weight's.
fn check_pair(pair: &Pair, slot: &Slot, columns_out: bool) -> Result<()> {
    let (a, b, w) = (&pair.a, &pair.b, &slot.shape);
    let wrong = || {
        let how = if columns_out { " (stored as [in, out])" } else { "" };
        Error::new(
            Kind::ShapeMismatch,
            format!(
                "{} of shape {:?} and {} of shape {:?} do not fit {} of shape {w:?}{how}",
                a.name, a.shape, b.name, b.shape, slot.name
            ),
        )
        .hint("the adapter was trained on a model of another size")
    };
    let fits = match (columns_out, w.len()) {
        (true, 2) => a.shape.len() == 2 && b.shape.len() == 2 && w[0] == a.shape[1] && w[1] == b.shape[0],
        (false, 2) => a.shape.len() == 2 && b.shape.len() == 2 && w[0] == b.shape[0] && w[1] == a.shape[1],
        (false, 3..) if a.shape.len() == 2 => {
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "{} of shape {:?} targets {} of shape {w:?}: LoRA on stacked experts is not supported yet",
                    a.name, a.shape, slot.name
                ),
            ));
        }
        (false, 3..) => {
            if a.shape.len() == w.len() && w[1] > 0 && a.shape[1] != w[1] && a.shape[1].is_multiple_of(w[1]) {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!(
                        "{} of shape {:?} targets {} of shape {w:?}: a convolution with groups is not supported",
                        a.name, a.shape, slot.name
                    ),
                ));
            }
            a.shape.len() == w.len()
                && a.shape[1..] == w[1..]
                && b.shape[0] == w[0]
                && b.shape[2..].iter().all(|d| *d == 1)
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(wrong()) }
}

/// The float dtype that most of the base's bytes have.
fn main_dtype<'a>(tensors: impl Iterator<Item = &'a Source>) -> Option<Dtype> {
    let mut bytes: BTreeMap<String, (u64, Dtype)> = BTreeMap::new();
    for t in tensors.filter(|t| t.dtype.floating()) {
        bytes.entry(t.dtype.name()).or_insert((0, t.dtype)).0 += t.bytes();
    }
    bytes.into_values().max_by_key(|(n, _)| *n).map(|(_, d)| d)
}
