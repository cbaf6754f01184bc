//! Operations: what a recipe does to a weight, one after another. Each is defined in one file.
//!
//! An operation with a delta adds it first, and then does the rest over whole rows: `finish`. That order lets a delta be
//! added by ranges of columns.

mod add;
mod definition;
mod dora;
mod mix;
mod modulate;
pub mod norm;
mod reflect;
mod round;
mod scale;
mod set_rows;

use serde::{Deserialize, Serialize};

pub use super::tile::{ExactRows, NoNorm, NoPlace, NoResult, Overflow, Tile};
pub use add::Add;
pub use dora::{Dora, DoraNorm, Norm};
pub use mix::{Mix, Shuffle};
pub use modulate::Modulate;
pub use reflect::Reflect;
pub use round::Round;
pub use scale::{Along, Scale};
pub use set_rows::SetRows;

use definition::Definition;

use super::arithmetic::Arithmetic;
use super::delta::Delta;
use super::made::Matrices;
use super::operand::{Input, Need, Operand, Value};
use crate::inventory::Source;
use crate::statistic::id::StatisticId;

/// An operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// `w += delta`.
    Add(Add),
    /// `v = w + delta; w = (m / n) * v`.
    Dora(Dora),
    /// `w[rows[i], :] = source[i, :]`.
    SetRows(SetRows),
    /// `w *= gains`, by rows or columns.
    Scale(Scale),
    /// `w += w @ block` for each block of columns.
    Mix(Box<Mix>),
    /// `w += (w @ vectors) @ back`.
    Reflect(Box<Reflect>),
    /// `w += w ∘ delta`.
    Modulate(Modulate),
    /// `w = fp32(round(w))`.
    Round(Round),
}

/// Calls the definition of an operation.
macro_rules! each {
    ($op:expr, $kind:ident => $call:expr) => {
        match $op {
            Op::Add($kind) => $call,
            Op::Dora($kind) => $call,
            Op::SetRows($kind) => $call,
            Op::Scale($kind) => $call,
            Op::Mix($kind) => $call,
            Op::Reflect($kind) => $call,
            Op::Modulate($kind) => $call,
            Op::Round($kind) => $call,
        }
    };
}

impl Op {
    /// The delta that it adds first.
    pub fn delta(&self) -> Option<&Delta> {
        each!(self, kind => kind.delta())
    }

    /// The delta that it makes something else of than adding it.
    pub fn factor(&self) -> Option<&Delta> {
        each!(self, kind => kind.factor())
    }

    /// What it reads beside its delta.
    pub fn own_inputs(&self) -> Vec<Input<'_>> {
        each!(self, kind => kind.inputs())
    }

    /// Everything that it reads: the delta's inputs, then its own.
    pub fn inputs(&self) -> Vec<Input<'_>> {
        let mut inputs = self.delta().map(Delta::inputs).unwrap_or_default();
        inputs.append(&mut self.own_inputs());
        inputs
    }

    /// The matrices that it takes beside its delta's.
    pub fn own_matrices(&self) -> Vec<Matrices<'_>> {
        each!(self, kind => kind.matrices())
    }

    /// All matrices that it takes: the delta's, then its own.
    pub fn matrices(&self) -> Vec<Matrices<'_>> {
        let mut matrices = self.delta().map(Delta::matrices).unwrap_or_default();
        matrices.append(&mut self.own_matrices());
        matrices
    }

    /// Every stored tensor that it reads, in the order of its inputs and then of its matrices.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        let inputs = self.inputs().into_iter().map(|input| input.operand);
        let made = self.matrices().into_iter().flat_map(|matrices| matrices.made.operands());
        inputs.chain(made).flat_map(Operand::sources)
    }

    /// Holds its matrices against the parameter. Each is sound by itself.
    ///
    /// # Errors
    /// What does not fit.
    pub fn fits(&self, rows: u64, cols: u64) -> Result<(), String> {
        self.delta().map_or(Ok(()), |delta| delta.fits(rows, cols))?;
        each!(self, kind => kind.fits(rows, cols))
    }

    /// The statistics that it waits for.
    pub fn statistics(&self) -> impl Iterator<Item = StatisticId> {
        self.own_inputs().into_iter().filter_map(|input| match input.need {
            Need::Derived(id) => Some(id),
            _ => None,
        })
    }

    /// Whether it needs `start + delta` beside the weight that stands.
    pub fn wants_original(&self) -> bool {
        each!(self, kind => kind.wants_original())
    }

    /// Behind the delta: the rest of the definition in fp32. The values are those of [`Self::own_inputs`] and
    /// [`Self::own_matrices`].
    ///
    /// # Errors
    /// If an output has no norm, or a dtype cannot hold a value.
    ///
    /// # Panics
    /// If lengths or forms do not fit.
    pub fn finish<A: Arithmetic>(
        &self,
        arithmetic: &A,
        tile: &mut Tile<'_>,
        original: Option<&[f32]>,
        values: &[Value<'_, A::Right>],
    ) -> Result<(), NoResult> {
        each!(self, kind => kind.finish(arithmetic, tile, original, values))
    }

    /// The whole definition in fp32: adds the delta and finishes. The values are those of the delta's inputs and matrices,
    /// then those of its own. `start` is the tile before the first step.
    ///
    /// # Errors
    /// If an output has no norm, or a dtype cannot hold a value.
    ///
    /// # Panics
    /// If lengths or forms do not fit.
    pub fn apply<A: Arithmetic>(
        &self,
        arithmetic: &A,
        tile: &mut Tile<'_>,
        start: Option<&[f32]>,
        values: &[Value<'_, A::Right>],
    ) -> Result<(), NoResult> {
        let Some(delta) = self.delta() else { return self.finish(arithmetic, tile, None, values) };
        let (of_delta, own) = values.split_at(delta.inputs().len() + delta.matrices().len());
        let original = start.filter(|_| self.wants_original()).map(|start| {
            let mut original = start.to_vec();
            delta.add(arithmetic, &mut Tile { w: &mut original, ..*tile }, of_delta);
            original
        });
        delta.add(arithmetic, tile, of_delta);
        self.finish(arithmetic, tile, original.as_deref(), own)
    }

    /// Behind the delta in f64. An output without a norm becomes NaN.
    ///
    /// # Panics
    /// If lengths do not fit.
    pub fn exact(&self, tile: &mut ExactRows<'_>, original: Option<&[f64]>, values: &[&[f64]]) {
        each!(self, kind => kind.exact(tile, original, values));
    }

    /// Fused multiply-adds for each element.
    pub fn cost(&self) -> u64 {
        self.delta().map_or(0, Delta::cost) + each!(self, kind => kind.cost())
    }
}
