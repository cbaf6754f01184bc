//! VBLORA: a low-rank delta whose factors are pieces, each a mixture of a few vectors of a bank that all modules share (Li et al. 2024,
//! arXiv:2405.15179; PEFT's `VBLoRALayer`). How a piece is made stands in [`Mixture`].
//!
//! | part | key | shape |
//! |---|---|---|
//! | `vblora_vector_bank` | `base_model.vblora_vector_bank` | [vectors, length] |
//! | `vblora_logits_A`, `vblora_logits_B` | without `.weight` | [r, in / length, vectors], [out / length, r, vectors] |
//! | `vblora_logits_A_topk_indices`, `.._B_..` | instead of them, with `save_only_topk_weights` | [r, in / length, topk], [out / length, r, topk] integers |
//! | `vblora_logits_A_topk_weights`, `.._B_..` | likewise | the same with topk - 1; the last weight is what they lack to 1 |

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::fields::Fields;
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Change, Resolved};
use crate::adapter::module::{Module, expect_places, expect_values};
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::made::{Mixture, Weights};
use crate::recipe::{self, Grid, Made, Operand};

const BANK: &str = "vblora_vector_bank";
/// What the tensors of a factor are called: its logits, or the numbers and weights of the vectors that count.
const A: [&str; 3] = ["vblora_logits_A", "vblora_logits_A_topk_indices", "vblora_logits_A_topk_weights"];
const B: [&str; 3] = ["vblora_logits_B", "vblora_logits_B_topk_indices", "vblora_logits_B_topk_weights"];

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "VBLORA",
    name: "VB-LoRA",
    keys: &[
        "init_logits_std",
        "init_vector_bank_bound",
        "num_vectors",
        "r",
        "runtime_config",
        "save_only_topk_weights",
        "topk",
        "vblora_dropout",
        "vector_length",
    ],
    parts: &[
        Part { name: A[0], marker: A[0], end: End::Any },
        Part { name: A[1], marker: A[1], end: End::Any },
        Part { name: A[2], marker: A[2], end: End::Any },
        Part { name: B[0], marker: B[0], end: End::Any },
        Part { name: B[1], marker: B[1], end: End::Any },
        Part { name: B[2], marker: B[2], end: End::Any },
    ],
    shared: &[BANK],
    may_be_empty: true,
    ignored: &[],
    parse: |fields| Ok(Arc::new(VbLora::parse(fields)?)),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct VbLora {
    r: u64,
    topk: u64,
}

/// One factor: how its pieces are weighed, and the two dimensions of pieces.
struct Factor {
    weights: Weights,
    pieces: [u64; 2],
}

impl VbLora {
    fn parse(fields: Fields<'_>) -> Result<VbLora> {
        Ok(VbLora { r: fields.count("r")?.unwrap_or(4), topk: fields.count("topk")?.unwrap_or(2) })
    }

    /// A factor of a module.
    fn factor(&self, module: &Module<'_>, [logits, indices, weights]: [&'static str; 3]) -> Result<Factor> {
        if let Some(tensor) = module.parts.get(logits) {
            if let Some(other) = module.parts.get(indices).or(module.parts.get(weights)) {
                let text = format!("{} and {} play the same part for {}", tensor.name, other.name, module.name);
                return Err(Error::new(Kind::Conflict, text));
            }
            expect_values(tensor)?;
            let (pieces, _) = shape(tensor)?;
            let logits = Operand::stacked(tensor.clone());
            return Ok(Factor { weights: Weights::Logits { logits, top: self.topk }, pieces });
        }
        let [places, weights] = module.all_of([indices, weights])?;
        expect_places(places)?;
        expect_values(weights)?;
        let (pieces, top) = shape(places)?;
        if top != self.topk || weights.shape[..] != [pieces[0], pieces[1], top - 1] {
            let text = format!(
                "{} has the shape {:?} and {} {:?}, adapter_config.json says topk = {}",
                places.name, places.shape, weights.name, weights.shape, self.topk
            );
            return Err(Error::new(Kind::ShapeMismatch, text));
        }
        let weights = (top > 1).then(|| Operand::stacked(weights.clone()));
        Ok(Factor { weights: Weights::Top { places: Operand::stacked(places.clone()), weights }, pieces })
    }

    /// The delta of a module.
    fn delta(&self, module: &Module<'_>) -> Result<Delta> {
        let Some(bank) = module.shared.get(BANK) else {
            return Err(Error::new(
                Kind::MissingTensor,
                format!("the file holds no {BANK}, of which {} is made", module.name),
            ));
        };
        expect_values(bank)?;
        let [_, length] = bank.shape[..] else {
            let text = format!("{} has shape {:?}, expected [vectors, length]", bank.name, bank.shape);
            return Err(Error::new(Kind::ShapeMismatch, text));
        };
        let (a, b) = (self.factor(module, A)?, self.factor(module, B)?);
        if a.pieces[0] != self.r || b.pieces[1] != self.r {
            let text = format!(
                "the factors of {} have the ranks {} and {}, adapter_config.json says r = {}",
                module.name, a.pieces[0], b.pieces[1], self.r
            );
            return Err(Error::new(Kind::RankMismatch, text));
        }
        let dims = [b.pieces[0].saturating_mul(length), a.pieces[1].saturating_mul(length)];
        let made = |factor: &Factor, by_place: bool, transposed: bool| {
            let (bank, weights) = (Operand::matrix(bank.clone()), factor.weights.clone());
            let made = Made::Mixture(Mixture { bank, weights, rank: self.r, by_place, transposed });
            made.size().map(|_| made).map_err(|text| Error::new(Kind::ShapeMismatch, text))
        };
        let product = |left, right| recipe::Delta::Grid(Box::new(Grid::product(left, right)));
        let straight = product(made(&b, true, true)?, made(&a, false, false)?);
        let turned = product(made(&a, false, true)?, made(&b, true, false)?);
        Ok(Delta::plain(Factors::made_both(straight, turned), dims, self.r, 1.0))
    }
}

/// The first two dimensions of three, and the last one.
fn shape(tensor: &Source) -> Result<([u64; 2], u64)> {
    match tensor.shape[..] {
        [a, b, last] if last > 0 => Ok(([a, b], last)),
        _ => {
            let text = format!("{} has shape {:?}, expected three dimensions", tensor.name, tensor.shape);
            Err(Error::new(Kind::ShapeMismatch, text))
        }
    }
}

impl AdapterKind for VbLora {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("r", self.r.into()), ("topk", self.topk.into())]
    }

    fn edits(&self, modules: &[Module<'_>], _: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            out.edits.push(module.edit(Change::delta(self.delta(module)?)));
        }
        Ok(())
    }
}
