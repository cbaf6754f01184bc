//! HRA: a layer's inputs are reflected r times, `W @ H_1 @ H_2 ... @ H_r` (Yuan et al. 2024, arXiv:2405.17484; PEFT's `HRALayer`).
//!
//! | part | key | shape |
//! |---|---|---|
//! | `hra_u` | without `.weight` | [in, r], convolution [in * kernel, r] |
//!
//! With `apply_GS` the vectors are made orthogonal first.

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::edit::{Applied, Change, Resolved};
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::recipe::made::{Half, Householder};
use crate::recipe::{Made, Op, Operand, Reflect};

const U: &str = "hra_u";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "HRA",
    name: "HRA",
    keys: &["apply_GS", "init_weights", "r", "runtime_config"],
    parts: &[Part { name: U, marker: U, end: End::Any }],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| Ok(Arc::new(Hra { r: fields.count("r")?.unwrap_or(8), orthogonal: fields.flag("apply_GS")? })),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct Hra {
    r: u64,
    orthogonal: bool,
}

impl AdapterKind for Hra {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("r", self.r.into()), ("apply_GS", self.orthogonal.into())]
    }

    fn edits(&self, modules: &[Module<'_>], _: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            let [u] = module.all_of([U])?;
            module.expect_values()?;
            let rank = match u.shape[..] {
                [_, rank] if rank == self.r => rank,
                _ => {
                    let text = format!("{} has shape {:?}, adapter_config.json says r = {}", u.name, u.shape, self.r);
                    return Err(Error::new(Kind::RankMismatch, text));
                }
            };
            let half = |half| {
                let (vectors, orthogonal) = (Operand::matrix(u.clone()), self.orthogonal);
                Made::Householder(Householder { vectors, orthogonal, half })
            };
            let ops = vec![Op::Reflect(Box::new(Reflect { vectors: half(Half::Vectors), back: half(Half::Back) }))];
            out.edits.push(module.edit(Change::Apply(Applied { ops, outputs: None, rank: Some(rank) })));
        }
        Ok(())
    }
}
