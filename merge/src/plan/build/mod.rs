//! Adapters onto base: every output tensor's recipe.
//!
//! The adapters are laid onto the base in the order given. A replacement replaces what stands so far; a delta is added
//! to what stands so far. What comes out is one recipe for each output tensor, with its final shape.

use std::collections::BTreeMap;

use super::lineage::Lineage;
use super::report::{AdapterReport, Report};
use crate::adapter::edit::{Change, Resolved};
use crate::adapter::orientation::Orientation;
use crate::adapter::resolve::resolve;
use crate::base::conv1d::Conv1d;
use crate::base::levels;
use crate::base::modules::ModelClass;
use crate::base::names::Names;
use crate::base::parameter::Parameter;
use crate::base::quantisation::{Fate, Quantisation, strays};
use crate::base::scheme;
use crate::base::tied::Ties;
use crate::base::vocabulary::{Grown, Parameters, Vocabulary};
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::{AdapterInventory, BaseInventory, Inventory};
use crate::output::Contents;
use crate::spec::MergeSpec;
use crate::statistic::Statistic;
use crate::tensor::{Dtype, DtypeExt};

mod builder;
mod chain;
mod change;
mod expert_order;
mod heads;
mod leave;
mod op;
mod quantised;
mod remarks;
mod requantise;
mod seen;
mod slot;
mod slots;
mod ties;
mod token_rows;
mod undecodable;
mod uses;

pub use crate::inventory::Equal;

use builder::{Builder, Laid};
use quantised::Coded;
use slot::Slot;
use slots::Slots;
use token_rows::TokenRows;
use uses::{Use, uses};

/// A name that no tensor of a safetensors file can have.
const METADATA: &str = "__metadata__";

/// All output tensors, and what goes with them.
#[derive(Debug)]
pub struct Built {
    /// What the output consists of.
    pub contents: Contents,
    /// What each adapter was trained on.
    pub lineage: Vec<Lineage>,
    /// The uses that replace or add whole tensors.
    pub replacing: Vec<u16>,
    /// Measurements, in an order in which each needs only earlier ones.
    pub statistics: Vec<Statistic>,
    /// Equalities to check before work starts.
    pub equals: Vec<Equal>,
    /// What a person reads.
    pub report: Report,
}

/// Lays the adapters onto the base.
///
/// # Errors
/// What cannot be merged, with the adapter's folder before the message.
pub fn build(spec: &MergeSpec, inventory: &Inventory, effort: &mut Effort) -> Result<Built> {
    let uses = uses(spec, inventory);
    let in_order: Vec<(usize, f64)> = uses.iter().map(|u| (u.index, u.weight)).collect();
    let mut builder = Builder::new(spec, inventory)?;
    for (number, usage) in uses.iter().enumerate() {
        let lineage = chain::lineage(&mut builder.report, number, &in_order, inventory);
        builder.lineage.push(lineage);
        builder.apply(number as u16, usage, effort).map_err(|e| e.at(&inventory.adapters[usage.index].url))?;
    }
    builder.finish(uses.iter().filter(|u| u.weight != 0.0).map(|u| u.index).collect())
}

impl<'a> Builder<'a> {
    fn new(spec: &'a MergeSpec, inventory: &'a Inventory) -> Result<Self> {
        let base = &inventory.base;
        let said = Quantisation::of(&base.config);
        let parameters = scheme::parameters(&base.shards, &said, &base.small);
        let main_dtype = main_dtype(&parameters);
        let coded = Coded::of(base, &parameters);
        coded.expect_known(spec)?;
        let conv1d = Conv1d::of(&base.config);
        let mut slots = Slots::with_room(parameters.len());
        for mut parameter in parameters {
            undecodable::mark(&mut parameter, &said, &conv1d);
            slots.push(slot(spec, base, parameter, main_dtype, coded.any())?);
        }
        let class = ModelClass::of(&base.config);
        let tensors = slots.all.iter().map(|slot| (slot.name.as_str(), slot.dims.as_slice()));
        let stored = Names::new(tensors, std::iter::empty(), &class);
        let ties = Ties::of(base, &stored, spec.tied)?;
        let mut report = Report::default();
        remarks::on_base(base, &mut report);
        coded.report(spec, value_dtype(spec, base, main_dtype), main_dtype, &mut report);
        remarks::on_ties(&ties, &mut report);
        let mut statistics = Vec::new();
        seen::replace(spec, base, &class, &coded, &mut slots, &mut statistics, &mut report)?;
        Ok(Builder {
            spec,
            inventory,
            conv1d,
            class,
            slots,
            ties,
            lineage: Vec::new(),
            statistics,
            equals: Vec::new(),
            architecture: None,
            ordered: false,
            token_rows: TokenRows::default(),
            main_dtype,
            quantised: coded.any(),
            unknown_codes: coded.any_unknown(),
            report,
        })
    }

    fn apply(&mut self, number: u16, usage: &Use, effort: &mut Effort) -> Result<()> {
        let adapter = &self.inventory.adapters[usage.index];
        let tensors = self.slots.all.iter().map(|slot| (slot.name.as_str(), slot.dims.as_slice()));
        let names = Names::new(tensors, self.ties.names(), &self.class);
        let order = self.spec.expert_order_of(usage.index);
        let resolved = resolve(adapter, order, &names, effort)?;
        let report = AdapterReport::new(&adapter.url, &adapter.config, usage.weight, &resolved);
        self.report.adapters.push(AdapterReport { files: adapter.files.clone(), ..report });
        remarks::on_adapter(number, adapter, &resolved, &mut self.report);
        self.note_order(number, order, resolved.expert_blocks)?;
        if usage.weight == 0.0 {
            self.report.note(format!("adapter {} has weight 0 and changes nothing", number + 1));
            return Ok(());
        }
        self.check_weight(usage.weight, &resolved)?;
        self.add_heads(number, &adapter.config, &resolved.heads)?;
        for equal in &resolved.equals {
            equal.check()?;
        }
        self.equals.extend_from_slice(&resolved.equals);
        let orientation = self.orientation(adapter, &resolved);
        let edits = self.share(number, resolved, adapter.config.ensure_weight_tying)?;
        let laid = Laid { number, weight: usage.weight, orientation: &orientation };
        edits.into_iter().try_for_each(|edit| self.edit(&laid, edit))
    }

    /// Types of layers decide where they are known, else shapes.
    fn orientation(&self, adapter: &AdapterInventory, resolved: &Resolved) -> Orientation {
        if !adapter.config.fan_in_fan_out || self.conv1d.knows_the_model() {
            return Orientation::by_type();
        }
        let targets = resolved.edits.iter().filter_map(|edit| {
            let (Change::Delta(delta), Some(slot)) = (&edit.change, self.slots.get(&edit.tensor)) else { return None };
            Some((edit.module.as_str(), delta.linear()?, slot.dims.as_slice()))
        });
        Orientation::by_shapes(targets, self.slots.all.iter().map(|s| (s.name.as_str(), s.dims.as_slice())))
    }

    /// A weight other than 1 has a meaning for deltas only.
    fn check_weight(&self, weight: f64, resolved: &Resolved) -> Result<()> {
        if weight == 1.0 || self.spec.partial_weight {
            return Ok(());
        }
        let added = resolved.heads.first().map(|head| (&head.source.name, "is added"));
        let whole = resolved.edits.iter().find_map(|e| match &e.change {
            Change::Replace { .. } => Some((&e.tensor, "is replaced")),
            Change::Rows { .. } => Some((&e.tensor, "has rows replaced")),
            Change::Delta(delta) if delta.magnitude.is_some() => Some((&e.tensor, "is rescaled by DoRA")),
            Change::Delta(delta) if delta.of_weight => Some((&e.tensor, "is multiplied by its delta")),
            Change::Multiply { .. } | Change::Apply(_) => Some((&e.tensor, "is multiplied")),
            Change::Delta(_) | Change::Bias { .. } => None,
        });
        match added.or(whole) {
            Some((tensor, how)) => Err(Error::new(
                Kind::Conflict,
                format!("the weight is {weight}, and {tensor} {how}, which takes no weight"),
            )
            .hint("--partial-weight applies the weight to the deltas only")),
            None => Ok(()),
        }
    }

    fn finish(mut self, in_force: Vec<usize>) -> Result<Built> {
        self.finish_ties()?;
        self.expect_architecture()?;
        self.expect_order()?;
        let vocabulary = self.vocabulary()?;
        let quantisation = self.leave()?;
        let count = |is: &dyn Fn(&Slot) -> bool| self.slots.all.iter().filter(|slot| is(slot)).count() as u64;
        self.report.tensors_changed = count(&|slot| slot.touched() || slot.stored.is_seen());
        self.report.tensors_dequantised = count(&|slot| slot.dequantised && !slot.touched());
        self.report.tensors_copied = count(&|slot| !slot.dequantised && !slot.touched() && !slot.stored.is_seen());
        let replacing = self.replacing();
        let main_dtype = self.written_dtype(&quantisation);
        let mut tensors = Vec::with_capacity(self.slots.all.len());
        for mut slot in self.slots.all {
            slot.part_stacked()?;
            tensors.extend(slot.tensors()?);
        }
        tensors.sort_by_key(|(number, _)| *number);
        let contents = Contents {
            tensors: tensors.into_iter().map(|(_, tensor)| tensor).collect(),
            vocabulary,
            untied: self.ties.untied,
            architecture: self.architecture,
            in_force,
            main_dtype,
            quantisation,
        };
        let Builder { lineage, statistics, equals, report, .. } = self;
        Ok(Built { contents, lineage, replacing, statistics, equals, report })
    }

    /// The uses that replace or add whole tensors.
    fn replacing(&self) -> Vec<u16> {
        let replaced = self.report.replaced.iter().map(|(_, number, ..)| *number);
        let mut all: Vec<u16> = replaced.chain(self.slots.all.iter().filter_map(|slot| slot.start_adapter)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The dtype that config.json is to name. None leaves it as it is: what most floats of a quantised base are may be scales.
    fn written_dtype(&self, quantisation: &Fate) -> Option<Dtype> {
        let asked = self.spec.dtype.dtype().is_some();
        match (self.quantised, quantisation) {
            (true, Fate::Gone) => Some(value_dtype(self.spec, &self.inventory.base, self.main_dtype)),
            (true, _) if !asked => None,
            _ => self.main_dtype,
        }
    }

    /// The size of the vocabulary, if it changes.
    fn vocabulary(&mut self) -> Result<Option<Vocabulary>> {
        let parameters = Parameters::new(self.slots.all.iter().map(Slot::changed).collect());
        let replaced = self.report.replaced.iter().map(|(name, _, before, _)| (name.as_str(), before.as_slice()));
        let grown = match self.ties.sides {
            Some(sides) => parameters.grown(sides)?,
            None => parameters.grown_by_size(&self.inventory.base.config, replaced)?,
        };
        self.report.vocabulary = grown.map(|Grown { before, vocabulary }| (before, vocabulary.rows));
        Ok(grown.map(|grown| grown.vocabulary))
    }
}

/// The output tensor of a parameter that nothing changes.
fn slot(
    spec: &MergeSpec,
    base: &BaseInventory,
    parameter: Parameter,
    main: Option<Dtype>,
    quantised: bool,
) -> Result<Slot> {
    let name = &parameter.name;
    if name == METADATA {
        let file = &base.shards[parameter.positions[0].shard].name;
        return Err(Error::new(
            Kind::Unsupported,
            format!("{file} holds a tensor named {METADATA}, which a safetensors file has another use for"),
        )
        .hint("rename the tensor in the base"));
    }
    let [stored] = parameter.stored.tensors.as_slice() else {
        return quantised::slot(spec, parameter, value_dtype(spec, base, main));
    };
    let dtype = match quantised && strays::is_stray(name) {
        true => stored.dtype,
        false => spec.output_dtype(stored.dtype, main),
    };
    if dtype != stored.dtype && !parameter.stored.has_values() {
        let (from, to) = (stored.dtype.name(), dtype.name());
        return Err(Error::new(
            Kind::Unsupported,
            format!("tensor {name} is {from}, which cannot be converted to {to}"),
        ));
    }
    Ok(Slot::of(parameter, dtype))
}

/// The dtype in which a parameter is written that was quantised and is not any more: config.json's, else that of the other
/// parameters.
fn value_dtype(spec: &MergeSpec, base: &BaseInventory, main: Option<Dtype>) -> Dtype {
    let named = ["dtype", "torch_dtype"].iter().find_map(|key| levels::get(&base.config, key)?.as_str());
    let own =
        [Dtype::BF16, Dtype::F16, Dtype::F32].into_iter().find(|dtype| dtype.config_name() == named && named.is_some());
    spec.dtype.dtype().or(own).or(main).unwrap_or(Dtype::BF16)
}

/// The float dtype that most of the bytes of a base have, apart from what belongs to quantised parameters.
fn main_dtype(parameters: &[Parameter]) -> Option<Dtype> {
    let mut bytes: BTreeMap<String, (u64, Dtype)> = BTreeMap::new();
    let single = parameters.iter().filter(|p| p.stored.tensors.len() == 1).flat_map(|p| &p.stored.tensors);
    for t in single.filter(|t| t.dtype.floating()) {
        bytes.entry(t.dtype.name()).or_insert((0, t.dtype)).0 += t.bytes();
    }
    bytes.into_values().max_by_key(|(n, _)| *n).map(|(_, d)| d)
}
