//! GRALORA: the weight in a grid of k x k blocks, each with a low-rank delta of its own, and a LoRA over all of it (Jung et al. 2025,
//! arXiv:2505.20355; PEFT's `GraloraLayer`).
//!
//! | part | key | shape |
//! |---|---|---|
//! | `gralora_A` | without `.weight` | [k, in / k, r] |
//! | `gralora_B` | without `.weight` | [k, r, out / k] |
//! | `gralora_A_general`, `gralora_B_general` | `.weight`; only where `hybrid_r` is above 0 | [hybrid_r, in], [out, hybrid_r] |
//!
//! Block (p, n) of outputs p and inputs n is `B[p, n * r / k ..]^T @ A[n, :, p * r / k ..]^T`, of rank r / k. The scale of all is
//! `alpha / (r + hybrid_r)`. The transpose, for a weight that is stored as [in, out], is `A[n, :, p * r / k ..] @ B[p, n * r / k ..]`.

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::fields::{Fields, bad};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Change, Resolved};
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::made::{Cut, Whole};
use crate::recipe::{self, Grid, Made, Operand};

const A: &str = "gralora_A";
const B: &str = "gralora_B";
const GENERAL_A: &str = "gralora_A_general";
const GENERAL_B: &str = "gralora_B_general";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "GRALORA",
    name: "GraLoRA",
    keys: &["alpha", "gralora_dropout", "gralora_k", "hybrid_r", "init_weights", "r", "runtime_config"],
    parts: &[
        Part { name: A, marker: A, end: End::Any },
        Part { name: B, marker: B, end: End::Any },
        Part { name: GENERAL_A, marker: GENERAL_A, end: End::Any },
        Part { name: GENERAL_B, marker: GENERAL_B, end: End::Any },
    ],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| Ok(Arc::new(Gralora::parse(fields)?)),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct Gralora {
    r: u64,
    hybrid_r: u64,
    side: u64,
    alpha: f64,
}

impl Gralora {
    fn parse(fields: Fields<'_>) -> Result<Gralora> {
        let alpha = fields.number("alpha")?.unwrap_or(64.0);
        if !alpha.is_finite() {
            return Err(bad(format!("alpha is {alpha}")));
        }
        let hybrid_r = match fields.get("hybrid_r") {
            Some(value) if value.as_u64() == Some(0) => 0,
            _ => fields.count("hybrid_r")?.unwrap_or(0),
        };
        let (r, side) = (fields.count("r")?.unwrap_or(32), fields.count("gralora_k")?.unwrap_or(2));
        Ok(Gralora { r, hybrid_r, side, alpha })
    }

    fn delta(&self, factors: Factors, dims: Vec<u64>, rank: u64) -> Change {
        let scale = self.alpha / (self.r as f64 + self.hybrid_r as f64);
        Change::delta(Delta::plain(factors, dims, rank, scale))
    }

    /// The grid of blocks.
    fn grid(&self, a: &Source, b: &Source) -> Result<Change> {
        let (side, r) = (self.side, self.r);
        match (&a.shape[..], &b.shape[..]) {
            ([k, inputs, rank], [l, other, outputs])
                if *k == side && *l == side && *rank == r && *other == r && r.is_multiple_of(side) =>
            {
                let dims = vec![side.saturating_mul(*outputs), side.saturating_mul(*inputs)];
                let grid =
                    |left, right, down| recipe::Delta::Grid(Box::new(Grid { left, right, side, down, scale: 1.0 }));
                let straight = grid(
                    Made::Cut(Cut { operand: Operand::stacked(b.clone()), down: side, across: 1 }),
                    Made::Cut(Cut { operand: Operand::stacked(a.clone()), down: side, across: side }),
                    false,
                );
                let turned = grid(
                    Made::Whole(Whole::one(Operand::stacked(a.clone()))),
                    Made::Whole(Whole { operand: Operand::stacked(b.clone()), count: side.saturating_mul(side) }),
                    true,
                );
                Ok(self.delta(Factors::made_both(straight, turned), dims, r))
            }
            (x, y) => {
                let text = format!(
                    "{} has the shape {x:?} and {} {y:?}, adapter_config.json says r = {r} and gralora_k = {side}",
                    a.name, b.name
                );
                Err(Error::new(Kind::RankMismatch, text))
            }
        }
    }

    /// The LoRA over all.
    fn general(&self, a: &Source, b: &Source) -> Result<Change> {
        match (&a.shape[..], &b.shape[..]) {
            ([rank, inputs], [outputs, other]) if *rank == self.hybrid_r && rank == other => {
                let factors = Factors::LowRank { a: a.clone(), b: b.clone(), inner: None };
                Ok(self.delta(factors, vec![*outputs, *inputs], *rank))
            }
            (x, y) => {
                let text = format!(
                    "{} has the shape {x:?} and {} {y:?}, adapter_config.json says hybrid_r = {}",
                    a.name, b.name, self.hybrid_r
                );
                Err(Error::new(Kind::RankMismatch, text))
            }
        }
    }
}

impl AdapterKind for Gralora {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("r", self.r.into()),
            ("hybrid_r", self.hybrid_r.into()),
            ("gralora_k", self.side.into()),
            ("alpha", self.alpha.into()),
        ]
    }

    fn edits(&self, modules: &[Module<'_>], _: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            let [a, b] = module.all_of([A, B])?;
            module.expect_values()?;
            out.edits.push(module.edit(self.grid(a, b)?));
            let has_general = module.parts.get(GENERAL_A).or(module.parts.get(GENERAL_B)).is_some();
            if self.hybrid_r > 0 || has_general {
                let [a, b] = module.all_of([GENERAL_A, GENERAL_B])?;
                out.edits.push(module.edit(self.general(a, b)?));
            }
        }
        Ok(())
    }
}
