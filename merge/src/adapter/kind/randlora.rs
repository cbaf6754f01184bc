//! RANDLORA: a delta of full rank, of two random matrices that all modules share and of a scaling for each basis (Albert et al. 2025,
//! arXiv:2502.00987; PEFT's `RandLoraLayer`). With `m` for the smaller dimension of the weight and `n` bases it is
//! `scale * B @ bases`, [larger, r * n] @ [r * n, m], or its transpose where the outputs are fewer than the inputs.
//!
//! | part | key | shape |
//! |---|---|---|
//! | `randlora_A` | without `.weight` | [r, 1, widest m]; a module takes the first m columns |
//! | `randlora_B` | likewise | [largest, most n, r]; a module takes its first rows, and the first n of r columns each |
//! | `randlora_lambda`, `randlora_gamma` | likewise | [r, n], [n, m] |
//!
//! How the bases are made stands in [`Bases`]. PEFT writes A and B for each module and once more for all. A file without
//! them (`save_projection: false`) is refused: PEFT draws them from torch's generator.

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use super::projections;
use crate::adapter::config::fields::{Fields, bad};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Change, Resolved};
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::recipe::made::{Bases, Whole};
use crate::recipe::{self, Grid, Made, Operand};
use crate::tensor::View;

const A: &str = "randlora_A";
const B: &str = "randlora_B";
const LAMBDA: &str = "randlora_lambda";
const GAMMA: &str = "randlora_gamma";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "RANDLORA",
    name: "RandLora",
    keys: &[
        "init_weights",
        "projection_prng_key",
        "r",
        "randlora_alpha",
        "randlora_dropout",
        "runtime_config",
        "save_projection",
        "sparse",
        "very_sparse",
    ],
    parts: &[
        Part { name: A, marker: A, end: End::Any },
        Part { name: B, marker: B, end: End::Any },
        Part { name: LAMBDA, marker: LAMBDA, end: End::Any },
        Part { name: GAMMA, marker: GAMMA, end: End::Any },
    ],
    shared: &[A, B],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| Ok(Arc::new(RandLora::parse(fields)?)),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct RandLora {
    r: u64,
    alpha: f64,
}

impl RandLora {
    fn parse(fields: Fields<'_>) -> Result<RandLora> {
        let alpha = fields.number("randlora_alpha")?.unwrap_or(640.0);
        if !alpha.is_finite() {
            return Err(bad(format!("randlora_alpha is {alpha}")));
        }
        Ok(RandLora { r: fields.count("r")?.unwrap_or(32), alpha })
    }

    /// The delta of a module.
    fn delta(&self, module: &Module<'_>, base: &Names<'_>) -> Result<Delta> {
        let [lambda, gamma] = module.all_of([LAMBDA, GAMMA])?;
        module.expect_values()?;
        let [a, b] = match (module.parts.get(A), module.parts.get(B)) {
            (Some(a), Some(b)) => [a, b],
            _ => projections::of(module, [A, B])?,
        };
        let misfit = || projections::misfit(module, base, &[lambda, gamma, a, b]);
        let (&[r, one, widest], &[largest, most, other]) = (&a.shape[..], &b.shape[..]) else { return Err(misfit()) };
        let (&[rank, n], &[bases, m]) = (&lambda.shape[..], &gamma.shape[..]) else { return Err(misfit()) };
        if [r, other, rank].iter().any(|rank| *rank != self.r) {
            let text = format!(
                "{} has the shape {:?}, {} {:?} and {} {:?}, adapter_config.json says r = {}",
                a.name, a.shape, b.name, b.shape, lambda.name, lambda.shape, self.r
            );
            return Err(Error::new(Kind::RankMismatch, text));
        }
        let (rows, cols) = module.matrix(base)?;
        let (small, large) = (rows.min(cols), rows.max(cols));
        if one != 1 || m != small || m > widest || large > largest || n != bases || n > most {
            return Err(misfit());
        }
        let wide = most.checked_mul(r).ok_or_else(misfit)?;
        let all = View { rows: largest, cols: wide, row_stride: wide, col_stride: 1, offset: 0 };
        let taken = all.rows(0..large).columns(0..n * r);
        let random = |view: View| Made::Whole(Whole::one(Operand { source: b.clone(), view, row_gains: None }));
        let scaled = |transposed: bool| {
            let a = Operand::stacked(a.clone());
            let a = Operand { view: a.view.columns(0..m), ..a };
            let (lambda, gamma) = (Operand::matrix(lambda.clone()), Operand::matrix(gamma.clone()));
            Made::Bases(Bases { a, lambda, gamma, transposed })
        };
        let grid = match cols == small {
            true => Grid::product(random(taken), scaled(false)),
            false => Grid::product(scaled(true), random(taken.transposed())),
        };
        let factors = Factors::made(recipe::Delta::Grid(Box::new(grid)));
        Ok(Delta::plain(factors, [rows, cols], self.r, self.alpha / self.r as f64))
    }
}

impl AdapterKind for RandLora {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("r", self.r.into()), ("randlora_alpha", self.alpha.into())]
    }

    fn edits(&self, modules: &[Module<'_>], base: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            out.edits.push(module.edit(Change::delta(self.delta(module, base)?)));
        }
        Ok(())
    }
}
