//! DELORA: a low-rank delta whose rank-1 parts have a bounded norm, `B @ diag(lambda / r / (|a_i| |b_i|)) @ A ∘ norms` (Bini et al.
//! 2025, arXiv:2503.18225; PEFT's `DeloraLayer`).
//!
//! | part | key, without `.weight` | shape |
//! |---|---|---|
//! | `delora_A`, `delora_B` | `delora_A`, `delora_B` | [r, in], [out, r] |
//! | `delora_lambda` | `delora_lambda` | `[1]` |
//! | `delora_w_norm` | `delora_w_norm` | `[in]`: the norm of each column of the weight, as it was when training began |

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Change, Resolved};
use crate::adapter::module::Module;
use crate::adapter::scale::Ranks;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::recipe::made::{Normalised, Whole};
use crate::recipe::{self, Grid, Made, Operand};

const A: &str = "delora_A";
const B: &str = "delora_B";
const LAMBDA: &str = "delora_lambda";
const NORMS: &str = "delora_w_norm";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "DELORA",
    name: "DeLoRA",
    keys: &["delora_lambda", "init_weights", "lambda_pattern", "module_dropout", "r", "rank_pattern", "runtime_config"],
    parts: &[
        Part { name: A, marker: A, end: End::Any },
        Part { name: B, marker: B, end: End::Any },
        Part { name: LAMBDA, marker: LAMBDA, end: End::Any },
        Part { name: NORMS, marker: NORMS, end: End::Any },
    ],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| Ok(Arc::new(Delora { ranks: Ranks::without_alpha(fields, 8)? })),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct Delora {
    ranks: Ranks,
}

impl AdapterKind for Delora {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("r", self.ranks.r.into())]
    }

    fn edits(&self, modules: &[Module<'_>], _: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        let scales = self.ranks.scales(modules.iter().map(|m| m.name), effort)?;
        for (number, module) in modules.iter().enumerate() {
            effort.check()?;
            let [a, b, lambda, norms] = module.all_of([A, B, LAMBDA, NORMS])?;
            module.expect_values()?;
            let ([held, inputs], [outputs, _]) = (&a.shape[..], &b.shape[..]) else {
                let text =
                    format!("{} has shape {:?} and {} {:?}, expected matrices", a.name, a.shape, b.name, b.shape);
                return Err(Error::new(Kind::ShapeMismatch, text));
            };
            let (rank, _) = scales.of_held(number, module.name, Some((*held, a)), out)?;
            let right = Made::Normalised(Normalised {
                a: Operand::matrix(a.clone()),
                b: Operand::matrix(b.clone()),
                bound: Operand::vector(lambda.clone()),
                gains: Operand::vector(norms.clone()),
            });
            right.size().map_err(|text| Error::new(Kind::RankMismatch, text))?;
            let left = Made::Whole(Whole::one(Operand::matrix(b.clone())));
            let product = recipe::Delta::Grid(Box::new(Grid::product(left, right)));
            let delta = Delta::plain(Factors::made(product), [*outputs, *inputs], rank, 1.0);
            out.edits.push(module.edit(Change::delta(delta)));
        }
        Ok(())
    }
}
