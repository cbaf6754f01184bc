//! LoRA on stacked experts (PEFT's `ParamWrapper`): one pair of factors for all experts of a layer.
//!
//! | part | stored | of expert `e` |
//! |---|---|---|
//! | `lora_A` | [experts * r, a] | rows `e * r..(e + 1) * r` |
//! | `lora_B` | [b, r * experts] | columns `e`, `e + experts`, `e + 2 * experts`, ...; with `--expert-order slowest` `e * r..(e + 1) * r` |
//!
//! The parameter of an expert is [rows, columns]. Where `b` are its rows and `a` its columns, the delta is `B @ A`, else `A^T @ B^T`
//! [PEFT 0.21.2, `lora/layer.py`, `get_delta_weight`]. A factor that has the rank of one expert is the same for all.

use std::collections::HashMap;

use super::keys::{A, B};
use super::square::Square;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Change, Edit, Resolved, RowRange};
use crate::adapter::module::expect_values;
use crate::adapter::parameter::{Held, Targeted};
use crate::adapter::scale::Ranks;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::Operand;
use crate::spec::ExpertOrder;
use crate::tensor::View;

/// Adds the edits of all targeted parameters.
pub(super) fn edits(
    ranks: &Ranks,
    square: Square,
    targets: &[Targeted<'_>],
    effort: &mut Effort,
    out: &mut Resolved,
) -> Result<()> {
    let scales = ranks.scales(targets.iter().map(|t| t.name.as_str()), effort)?;
    let pairs = targets.iter().map(Pair::of).collect::<Result<Vec<_>>>()?;
    let settled = settled(targets, &pairs);
    for (number, (target, pair)) in targets.iter().zip(&pairs).enumerate() {
        effort.check()?;
        let (rank, transposed) = match &target.held {
            Held::Matrix { .. } => (pair.a.shape[0], false),
            Held::Stacked { transposed, .. } => (pair.rank(target)?, *transposed),
            Held::Split { .. } | Held::OneByOne { .. } => (pair.rank(target)?, false),
        };
        let scale = scales.of(number, &target.name, (rank, pair.a), out)?;
        let make = |factors: Factors, dims: [u64; 2]| Change::delta(Delta::plain(factors, dims, rank, scale));
        let edit = |tensor: &str, rows: Option<RowRange>, change: Change| Edit {
            tensor: tensor.to_owned(),
            rows,
            module: target.module.to_owned(),
            change,
        };
        if let Held::Matrix { tensor } = &target.held {
            let factors = Factors::LowRank { a: pair.a.clone(), b: pair.b.clone(), inner: None };
            out.edits.push(edit(tensor, None, make(factors, [pair.b.shape[0], pair.a.shape[1]])));
        }
        let turned = matches!(&target.held, Held::Split { part, .. } if part.split.transposed);
        let Some(dims) = target.held.dims() else { continue };
        let [experts, rows, cols] = dims;
        let inputs_first = match (pair.fits(rows, cols), pair.fits(cols, rows)) {
            (true, false) => false,
            (false, true) => true,
            (true, true) => settled.get(target.module).copied().unwrap_or(square.inputs_first(transposed) != turned),
            (false, false) => return Err(pair.misfit(target, dims)),
        };
        out.expert_blocks |= pair.b.shape[1] > rank;
        for expert in 0..experts {
            effort.check()?;
            let (left, right) = pair.of_expert((expert, experts), target.order, rank, inputs_first);
            for piece in target.held.pieces(expert) {
                let left = Operand { view: piece.of.of(left.view), ..left.clone() };
                let change = make(Factors::Views { left, right: right.clone() }, [piece.of.count, cols]);
                out.edits.push(edit(&piece.tensor, piece.rows, change));
            }
        }
    }
    Ok(())
}

/// Whether inputs come first in the parameters of a module, where one that is not square tells.
fn settled<'a>(targets: &[Targeted<'a>], pairs: &[Pair<'_>]) -> HashMap<&'a str, bool> {
    let told = targets.iter().zip(pairs).filter_map(|(target, pair)| {
        let [_, rows, cols] = target.held.dims()?;
        match (pair.fits(rows, cols), pair.fits(cols, rows)) {
            (true, false) => Some((target.module, false)),
            (false, true) => Some((target.module, true)),
            _ => None,
        }
    });
    told.collect()
}

/// The factors of a parameter.
struct Pair<'a> {
    /// [experts * r, a].
    a: &'a Source,
    /// [b, r * experts].
    b: &'a Source,
}

impl<'a> Pair<'a> {
    fn of(target: &Targeted<'a>) -> Result<Pair<'a>> {
        let part = |name| target.parts.get(name);
        if let Some(other) = target.parts.all().find(|t| Some(*t) != part(A) && Some(*t) != part(B)) {
            let text = format!(
                "{} is for {}, a parameter, for which PEFT has lora_A and lora_B only",
                other.name, target.name
            );
            return Err(Error::new(Kind::Unsupported, text));
        }
        let (Some(a), Some(b)) = (part(A), part(B)) else {
            let have: Vec<&str> = target.parts.all().map(|t| t.name.as_str()).collect();
            let missing = if part(A).is_none() { A } else { B };
            let text = format!("{} has {} and no {missing}", target.name, have.join(", "));
            return Err(Error::new(Kind::IncompletePair, text));
        };
        for factor in [a, b] {
            expect_values(factor)?;
            if factor.shape.len() != 2 {
                let text = format!("{} has the shape {:?}, expected a matrix", factor.name, factor.shape);
                return Err(Error::new(Kind::ShapeMismatch, text));
            }
        }
        Ok(Pair { a, b })
    }

    /// The rank of one expert.
    fn rank(&self, target: &Targeted<'_>) -> Result<u64> {
        let Some([experts, ..]) = target.held.dims() else { return Ok(self.a.shape[0]) };
        let (of_a, of_b) = (self.a.shape[0], self.b.shape[1]);
        if of_a == of_b && of_a.is_multiple_of(experts) {
            return Ok(of_a / experts);
        }
        // One of the two is the same for all experts.
        if of_a.checked_mul(experts) == Some(of_b) || of_b.checked_mul(experts) == Some(of_a) {
            return Ok(of_a.min(of_b));
        }
        let (a, b) = (self.a, self.b);
        Err(Error::new(
            Kind::RankMismatch,
            format!(
                "{} of shape {:?} and {} of shape {:?} are no factors for the {experts} experts of {}",
                a.name, a.shape, b.name, b.shape, target.name
            ),
        ))
    }

    /// Whether B has the rows and A the columns of an expert.
    fn fits(&self, rows: u64, cols: u64) -> bool {
        (self.b.shape[0], self.a.shape[1]) == (rows, cols)
    }

    fn misfit(&self, target: &Targeted<'_>, dims: [u64; 3]) -> Error {
        let (a, b) = (self.a, self.b);
        Error::new(
            Kind::ShapeMismatch,
            format!(
                "{} of shape {:?} and {} of shape {:?} do not fit {} of shape {dims:?}",
                a.name, a.shape, b.name, b.shape, target.name
            ),
        )
        .hint("the adapter was trained on a model of another size")
    }

    /// The factors of one expert: [rows, rank] and [rank, columns].
    fn of_expert(
        &self,
        (expert, experts): (u64, u64),
        order: ExpertOrder,
        rank: u64,
        inputs_first: bool,
    ) -> (Operand, Operand) {
        let (inputs, width) = (self.a.shape[1], self.b.shape[1]);
        let of_a = self.a.shape[0] > rank;
        let (first, apart) = match order {
            // One for all experts.
            _ if width == rank => (0, 1),
            ExpertOrder::Fastest => (expert, experts),
            ExpertOrder::Slowest => (expert * rank, 1),
        };
        let a = View {
            rows: rank,
            cols: inputs,
            row_stride: inputs,
            col_stride: 1,
            offset: if of_a { expert * rank * inputs } else { 0 },
        };
        let b = View { rows: self.b.shape[0], cols: rank, row_stride: width, col_stride: apart, offset: first };
        let seen = |source: &Source, view: View| Operand { source: source.clone(), view, row_gains: None };
        match inputs_first {
            false => (seen(self.b, b), seen(self.a, a)),
            true => (seen(self.a, a.transposed()), seen(self.b, b.transposed())),
        }
    }
}
