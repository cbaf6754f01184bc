//! The output tensors on their way: parameters and what is done to them so far.

use std::collections::HashMap;

use crate::base::parameter::Parameter;
use crate::base::scheme::stored::{Start, Stored};
use crate::base::vocabulary::Changed;
use crate::error::{Error, Kind, Result};
use crate::output::Tensor;
use crate::recipe::{Fuse, Op, Recipe, Step};
use crate::tensor::Dtype;

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
    /// The file of the base that holds it.
    pub(super) shard: Option<usize>,
    /// Adapters that changed it, for the report.
    pub(super) changed_by: Vec<u16>,
}

impl Slot {
    /// A parameter that nothing has changed yet.
    pub(super) fn of(parameter: Parameter, dtype: Dtype) -> Slot {
        Slot {
            name: parameter.name,
            dtype,
            before: Some(parameter.dims.clone()),
            dims: parameter.dims,
            stored: parameter.stored,
            start_adapter: None,
            steps: Vec::new(),
            shard: Some(parameter.shard),
            changed_by: Vec::new(),
        }
    }

    /// Whether an adapter changes it.
    pub(super) fn touched(&self) -> bool {
        self.start_adapter.is_some() || !self.steps.is_empty()
    }

    /// Its shapes before and after.
    pub(super) fn changed(&self) -> Changed<'_> {
        let (before, replaced) = (self.before.as_deref(), self.start_adapter.is_some());
        Changed { name: &self.name, before, after: &self.dims, replaced }
    }

    /// Adds a step.
    pub(super) fn push(&mut self, adapter: u16, op: Op) {
        self.steps.push(Step { adapter, op });
    }

    /// What its steps start from.
    ///
    /// # Errors
    /// `internal` if it holds no values: an edit of such a parameter is refused before.
    pub(super) fn start(&self) -> Result<Start> {
        self.stored.start().map_err(|e| Error::new(Kind::Internal, format!("{}: {e}", self.name)))
    }

    /// The recipe that makes it.
    fn recipe(&self) -> Result<Recipe> {
        // What holds no values, such as a counter of batches, is replaced byte by byte.
        if let [one] = self.stored.tensors.as_slice()
            && self.steps.is_empty()
            && self.dtype == one.dtype
            && (!self.touched() || !self.stored.has_values())
        {
            return Ok(Recipe::Copy(one.clone()));
        }
        Ok(Recipe::Fuse(Fuse {
            start: self.start()?,
            start_adapter: self.start_adapter,
            steps: self.steps.clone(),
            keep_non_finite: !self.touched(),
        }))
    }

    /// The output tensor.
    ///
    /// # Errors
    /// As [`Slot::start`].
    pub(super) fn tensor(&self) -> Result<Tensor> {
        let (name, dtype, dims) = (self.name.clone(), self.dtype, self.dims.clone());
        Ok(Tensor { name, dtype, dims, shard: self.shard, recipe: self.recipe()? })
    }
}

/// All output tensors, in the base's order; new ones at the end.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// The tensors.
    pub(super) all: Vec<Slot>,
    by_name: HashMap<String, usize>,
}

impl Slots {
    /// Adds one.
    pub(super) fn push(&mut self, slot: Slot) {
        self.by_name.insert(slot.name.clone(), self.all.len());
        self.all.push(slot);
    }

    /// Whether there is one of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The place of one.
    ///
    /// # Errors
    /// `internal` if there is none: edits name what the base has.
    pub(super) fn at(&self, name: &str) -> Result<usize> {
        self.by_name.get(name).copied().ok_or_else(|| Error::new(Kind::Internal, format!("no slot for {name}")))
    }

    /// The one of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Slot> {
        self.by_name.get(name).map(|at| &self.all[*at])
    }

    /// Makes the tensor `name` what `from` is; adds it if it is not there.
    ///
    /// # Errors
    /// `internal` if there is no `from`.
    pub(super) fn copy(&mut self, from: &str, name: &str) -> Result<()> {
        let from = self.all[self.at(from)?].clone();
        match self.by_name.get(name) {
            Some(at) => {
                let slot = &mut self.all[*at];
                *slot = Slot { name: name.to_owned(), shard: slot.shard, before: slot.before.take(), ..from };
            }
            None => self.push(Slot { name: name.to_owned(), shard: None, before: None, ..from }),
        }
        Ok(())
    }
}
