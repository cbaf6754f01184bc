//! One output tensor on its way: a parameter and what is done to it so far.

use std::collections::BTreeMap;

use super::op;
use crate::adapter::edit::RowRange;
use crate::base::parameter::{Parameter, Position};
use crate::base::scheme::claim::Rule;
use crate::base::scheme::recode;
use crate::base::scheme::stored::{Start, Stored};
use crate::base::vocabulary::Changed;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::output::{Recipes, Tensor};
use crate::recipe::{Fuse, Op, Recipe, Requantise, Step};
use crate::statistic::StatisticId;
use crate::tensor::Dtype;
use crate::tensor::float::Float;

/// How values become what is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Encoding {
    /// The formula.
    pub(super) rule: Rule,
    /// The statistic of the largest value, where one scale serves all values.
    pub(super) range: Option<StatisticId>,
}

/// A parameter with the recipe that stands.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// The name.
    pub(super) name: String,
    /// The output dtype.
    pub(super) dtype: Dtype,
    /// The shape in the base; `None` if the base does not store it.
    pub(super) before: Option<Vec<u64>>,
    /// The shape that stands.
    pub(super) dims: Vec<u64>,
    /// What the steps start from.
    pub(super) stored: Stored,
    /// The adapter that replaced the start.
    pub(super) start_adapter: Option<u16>,
    /// The steps so far.
    pub(super) steps: Vec<Step>,
    /// Where the base's tensors of it stand; none if the base does not hold it.
    pub(super) positions: Vec<Position>,
    /// Adapters that changed it, for the report.
    pub(super) changed_by: Vec<u16>,
    /// The bytes of the codes and scales that the base has for it; `None` if it is not quantised there.
    pub(super) coded: Option<u64>,
    /// Whether it is written as values, although it is stored as codes and nothing changes it.
    pub(super) dequantised: bool,
    /// How its values are encoded again, if an adapter changes it and it stays quantised.
    pub(super) encoding: Option<Encoding>,
    /// Portions by their first rows, without gaps, that are changed one by one. None if it is changed as a whole.
    pub(super) portions: BTreeMap<u64, Slot>,
}

impl Slot {
    /// A parameter that nothing has changed yet.
    pub(super) fn of(parameter: Parameter, dtype: Dtype) -> Slot {
        let tensors = &parameter.stored.tensors;
        Slot {
            name: parameter.name,
            dtype,
            coded: (tensors.len() > 1).then(|| tensors.iter().map(Source::bytes).sum()),
            before: Some(parameter.dims.clone()),
            dims: parameter.dims,
            stored: parameter.stored,
            start_adapter: None,
            steps: Vec::new(),
            positions: parameter.positions,
            changed_by: Vec::new(),
            dequantised: false,
            encoding: None,
            portions: BTreeMap::new(),
        }
    }

    /// Makes a portion of these rows, of a matrix whose columns are the last dimension; a vector has one column. What lies before
    /// and behind them becomes portions too. Nothing is done if there is such a portion.
    ///
    /// # Errors
    /// `shape_mismatch` if it has no such rows, `unsupported` if it was changed as a whole, or in portions that cross these rows.
    pub(super) fn part(&mut self, rows: RowRange) -> Result<()> {
        let (height, cols) = match *self.dims {
            [height] => (height, 1),
            _ => (self.dims.iter().rev().skip(1).product::<u64>(), self.dims.last().copied().unwrap_or(1)),
        };
        let RowRange { first, count, cols: wanted } = rows;
        let end = first.checked_add(count).filter(|end| *end <= height && count > 0 && cols == wanted);
        let Some(end) = end else {
            let text = format!(
                "{} has the shape {:?}, the adapter changes {count} rows of {wanted} columns from {first} on",
                self.name, self.dims
            );
            return Err(
                Error::new(Kind::ShapeMismatch, text).hint("the adapter was trained on a model of another size")
            );
        };
        if self.portions.is_empty() {
            if !self.steps.is_empty() {
                let text = format!("{} is changed as a whole, and then by portions", self.name);
                return Err(Error::new(Kind::Unsupported, text).hint("merge the adapters one after another"));
            }
            self.portions = BTreeMap::from([(0, self.rows(0, height)?)]);
        }
        let around = self.portions.range(..=first).next_back();
        let (begin, held) = around.map_or((0, 0), |(begin, slot)| (*begin, slot.dims[0]));
        if (begin, held) == (first, count) {
            return Ok(());
        }
        let whole = self.portions.remove(&begin).filter(|slot| end <= begin + held && slot.steps.is_empty());
        let Some(whole) = whole else {
            let text = format!(
                "{} is changed by portions, of which one begins with row {begin}, and then rows {first} to {end} of it",
                self.name
            );
            return Err(Error::new(Kind::Unsupported, text).hint("merge the adapters one after another"));
        };
        let cuts = [begin, first, end, begin + held];
        let parts = cuts.windows(2).filter(|cut| cut[0] < cut[1]);
        for cut in parts {
            self.portions.insert(cut[0], whole.rows(cut[0] - begin, cut[1] - cut[0])?);
        }
        Ok(())
    }

    /// Makes one portion of stacked matrices that are to be dequantised, so that a row of work is not a whole expert.
    ///
    /// # Errors
    /// As [`Slot::part`].
    pub(super) fn part_stacked(&mut self) -> Result<()> {
        if self.dequantised && self.dims.len() == 3 && self.portions.is_empty() && !self.touched() {
            self.portions = BTreeMap::from([(0, self.rows(0, self.dims[0] * self.dims[1])?)]);
        }
        Ok(())
    }

    /// Some of its rows, as if they were a parameter.
    ///
    /// # Errors
    /// `unsupported` if they cannot be stored apart.
    fn rows(&self, first: u64, count: u64) -> Result<Slot> {
        let cols = self.dims.last().copied().filter(|_| self.dims.len() > 1);
        let dims: Vec<u64> = std::iter::once(count).chain(cols).collect();
        let stored = self.stored.portion(first..first + count).ok_or_else(|| {
            let (name, scheme, end) = (&self.name, self.stored.scheme.name(), first + count);
            let text =
                format!("rows {first} to {end} of {name}, which is stored as {scheme}, have no values by themselves");
            Error::new(Kind::Unsupported, text).hint("merge into the unquantised base and quantise the result")
        })?;
        Ok(Slot {
            name: self.name.clone(),
            before: Some(dims.clone()),
            dims,
            stored,
            positions: self.positions.clone(),
            steps: Vec::new(),
            changed_by: self.changed_by.clone(),
            portions: BTreeMap::new(),
            ..*self
        })
    }

    /// Whether an adapter changes it.
    pub(super) fn touched(&self) -> bool {
        self.start_adapter.is_some() || !self.steps.is_empty() || self.portions.values().any(Slot::touched)
    }

    /// Its shapes before and after.
    pub(super) fn changed(&self) -> Changed<'_> {
        let (before, replaced) = (self.before.as_deref(), self.start_adapter.is_some());
        Changed { name: &self.name, before, after: &self.dims, replaced }
    }

    /// Adds a step.
    pub(super) fn push(&mut self, adapter: u16, op: Op) {
        // Most have one step, and steps are large.
        self.steps.reserve_exact(1);
        self.steps.push(Step { adapter, op });
    }

    /// Rounds what stands, as if it had been saved before this adapter was merged. Nothing is done if the adapter changes it
    /// already, or the output's dtype holds what stands.
    pub(super) fn save_before(&mut self, adapter: u16) {
        let begun = match self.steps.last() {
            Some(step) => step.adapter == adapter,
            None => self.start_adapter == Some(adapter),
        };
        let Some(to) = Float::of(self.dtype).filter(|_| adapter > 0 && !begun) else { return };
        let held = |start: Start| start.as_plain().is_some_and(|(_, from)| to.holds(from));
        if to == Float::F32 || self.steps.is_empty() && self.start().is_ok_and(held) {
            return;
        }
        self.push(adapter - 1, op::round(to));
    }

    /// What its steps start from.
    ///
    /// # Errors
    /// `internal` if it holds no values: an edit of such a parameter is refused before.
    pub(super) fn start(&self) -> Result<Start> {
        self.stored.start().map_err(|e| without_values(&self.name, &e))
    }

    /// The recipe that makes it.
    fn recipe(mut self) -> Result<Recipe> {
        let (touched, seen) = (self.touched(), self.stored.is_seen());
        // What holds no values, such as a counter of batches, is replaced byte by byte.
        if let [one] = self.stored.tensors.as_slice()
            && self.steps.is_empty()
            && self.dtype == one.dtype
            && !seen
            && (!touched || !self.stored.has_values())
        {
            return Ok(Recipe::Copy(self.stored.tensors.swap_remove(0)));
        }
        let start = self.stored.into_start();
        Ok(Recipe::Fuse(Fuse {
            start: start.map_err(|e| without_values(&self.name, &e))?,
            start_adapter: self.start_adapter,
            steps: self.steps,
            // A weight that is seen through codes has no value where one of its block is not finite.
            keep_non_finite: !touched && !seen,
        }))
    }

    /// The recipe of one of the tensors that store it, which stays quantised.
    fn stored_recipe(&self, tensor: usize) -> Result<Recipe> {
        let missing = || Error::new(Kind::Internal, format!("{} has no tensor {tensor}", self.name));
        let source = self.stored.tensors.get(tensor).ok_or_else(missing)?;
        let Some(Encoding { rule, range }) = self.encoding.filter(|_| tensor < recode::MADE) else {
            return Ok(Recipe::Copy(source.clone()));
        };
        let (start, steps) = (self.start()?, self.steps.clone());
        let fuse = Fuse { start, start_adapter: None, steps, keep_non_finite: false };
        Ok(Recipe::Requantise(Box::new(Requantise { fuse, tensor: tensor as u8, rule, range })))
    }

    /// All tensors that store it, of which codes and scales are made anew where it is encoded.
    fn stored_tensors(&self) -> Result<Vec<(usize, Tensor)>> {
        let mut all = Vec::with_capacity(self.stored.tensors.len());
        for (place, (source, position)) in self.stored.tensors.iter().zip(&self.positions).enumerate() {
            let by_portions = place < recode::MADE && !self.portions.is_empty();
            let recipes = match by_portions {
                true => Recipes::Portions(
                    self.portions.values().map(|portion| portion.stored_recipe(place)).collect::<Result<_>>()?,
                ),
                false => Recipes::Whole(self.stored_recipe(place)?),
            };
            let (name, dtype, dims) = (source.name.clone(), source.dtype, source.shape.clone());
            all.push((position.number, Tensor { name, dtype, dims, shard: Some(position.shard), recipes }));
        }
        Ok(all)
    }

    /// The output tensors, with their number among the base's: one, or all that store a parameter that stays quantised.
    ///
    /// # Errors
    /// As [`Slot::start`].
    pub(super) fn tensors(mut self) -> Result<Vec<(usize, Tensor)>> {
        let encoded = self.encoding.is_some() || self.portions.values().any(|portion| portion.encoding.is_some());
        if encoded || !self.touched() && self.stored.tensors.len() > 1 && !self.dequantised {
            return self.stored_tensors();
        }
        let (name, dtype, dims) = (self.name.clone(), self.dtype, self.dims.clone());
        let first = self.positions.first().copied();
        let portions = std::mem::take(&mut self.portions);
        let recipes = match portions.is_empty() {
            true => Recipes::Whole(self.recipe()?),
            false => Recipes::Portions(portions.into_values().map(Slot::recipe).collect::<Result<_>>()?),
        };
        let tensor = Tensor { name, dtype, dims, shard: first.map(|position| position.shard), recipes };
        Ok(vec![(first.map_or(usize::MAX, |position| position.number), tensor)])
    }
}

/// An edit of a parameter without values, which is refused before.
fn without_values(name: &str, why: &str) -> Error {
    Error::new(Kind::Internal, format!("{name}: {why}"))
}
