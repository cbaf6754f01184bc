//! VERA: a low-rank delta of two random matrices that all modules share, `diag(b) @ B @ diag(d) @ A` (Kopiczko et al. 2023,
//! arXiv:2310.11454; PEFT's `VeraLayer`).
//!
//! | part | key | shape |
//! |---|---|---|
//! | `vera_A`, `vera_B` | `base_model.vera_A`, `base_model.vera_B` | [r, widest in], [widest out, r]; a module takes the first columns and rows |
//! | `vera_lambda_b`, `vera_lambda_d` | without `.weight` | `[out]`, `[r]` |
//!
//! A file without `vera_A` and `vera_B` (`save_projection: false`) is refused: PEFT draws them from torch's generator.
//!
//! PVERA (arXiv:2512.07703; PEFT's `PveraLayer`) has the same tensors under `pvera_`. The first halves of `pvera_lambda_d` and of the
//! rows of `pvera_A` give the mean, which PEFT merges; the second halves give a variance, which acts only unmerged.

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use super::projections;
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Change, Resolved};
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::Operand;
use crate::tensor::View;

/// What the tensors of a kind are called.
#[derive(Debug)]
struct TensorNames {
    a: &'static str,
    b: &'static str,
    lambda_b: &'static str,
    lambda_d: &'static str,
}

const VERA: TensorNames =
    TensorNames { a: "vera_A", b: "vera_B", lambda_b: "vera_lambda_b", lambda_d: "vera_lambda_d" };
const PVERA: TensorNames =
    TensorNames { a: "pvera_A", b: "pvera_B", lambda_b: "pvera_lambda_b", lambda_d: "pvera_lambda_d" };

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "VERA",
    name: "VeRA",
    keys: &[
        "d_initial",
        "init_weights",
        "projection_prng_key",
        "r",
        "runtime_config",
        "save_projection",
        "vera_dropout",
    ],
    parts: &[
        Part { name: VERA.lambda_b, marker: VERA.lambda_b, end: End::Any },
        Part { name: VERA.lambda_d, marker: VERA.lambda_d, end: End::Any },
    ],
    shared: &[VERA.a, VERA.b],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| {
        Ok(Arc::new(Vera { r: fields.count("r")?.unwrap_or(256), row: &ROW, names: &VERA, has_variance: false }))
    },
    tokens: |_| Ok(Tokens::None),
};

/// The PEFT type of the probabilistic form.
pub static PVERA_ROW: Row = Row {
    peft_type: "PVERA",
    name: "PVeRA",
    keys: &[
        "d_initial",
        "generator_seed",
        "init_weights",
        "projection_prng_key",
        "pvera_dropout",
        "r",
        "runtime_config",
        "sample_at_inference",
        "save_projection",
    ],
    parts: &[
        Part { name: PVERA.lambda_b, marker: PVERA.lambda_b, end: End::Any },
        Part { name: PVERA.lambda_d, marker: PVERA.lambda_d, end: End::Any },
    ],
    shared: &[PVERA.a, PVERA.b],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| {
        Ok(Arc::new(Vera { r: fields.count("r")?.unwrap_or(256), row: &PVERA_ROW, names: &PVERA, has_variance: true }))
    },
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct Vera {
    r: u64,
    row: &'static Row,
    names: &'static TensorNames,
    /// Whether the tensors have a second half, which gives a variance.
    has_variance: bool,
}

impl AdapterKind for Vera {
    fn row(&self) -> &'static Row {
        self.row
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("r", self.r.into())]
    }

    fn edits(&self, modules: &[Module<'_>], base: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            let [lambda_b, lambda_d] = module.all_of([self.names.lambda_b, self.names.lambda_d])?;
            module.expect_values()?;
            let [a, b] = projections::of(module, [self.names.a, self.names.b])?;
            let outputs = lambda_b.elements();
            let inputs = match module.matrix(base)? {
                // The second is refused when it is laid on, where the layer is known to be stored so.
                (out, inputs) | (inputs, out) if out == outputs => inputs,
                _ => return Err(projections::misfit(module, base, &[lambda_b, lambda_d, a, b])),
            };
            let (rank, widest, tallest) = self.sizes(a, b)?;
            if lambda_d.elements() != self.held() || inputs > widest || outputs > tallest {
                return Err(projections::misfit(module, base, &[lambda_b, lambda_d, a, b]));
            }
            let operand = |source: &Source, view: View, gains: &Source| Operand {
                source: source.clone(),
                view,
                row_gains: Some(gains.clone()),
            };
            let factors = Factors::Gained {
                a: operand(a, View::of(&a.shape).rows(0..rank).columns(0..inputs), &first(lambda_d, rank)),
                b: operand(b, View::of(&b.shape).rows(0..outputs), lambda_b),
            };
            out.edits.push(module.edit(Change::delta(Delta::plain(factors, [outputs, inputs], rank, 1.0))));
        }
        Ok(())
    }
}

impl Vera {
    /// Rows of A, and values of `lambda_d`.
    fn held(&self) -> u64 {
        if self.has_variance { self.r.saturating_mul(2) } else { self.r }
    }

    /// The rank, A's columns and B's rows.
    fn sizes(&self, a: &Source, b: &Source) -> Result<(u64, u64, u64)> {
        match (&a.shape[..], &b.shape[..]) {
            ([held, widest], [tallest, rank]) if *held == self.held() && *rank == self.r => {
                Ok((*rank, *widest, *tallest))
            }
            (x, y) => Err(Error::new(
                Kind::RankMismatch,
                format!(
                    "{} has the shape {x:?} and {} {y:?}, adapter_config.json says r = {}",
                    self.names.a, self.names.b, self.r
                ),
            )),
        }
    }
}

/// The first values of a vector.
fn first(vector: &Source, count: u64) -> Source {
    Source { shape: vec![count], ..vector.clone() }
}
